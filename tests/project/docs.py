#!/usr/bin/env python3
"""The documentation against the tool.

    docs.py BUILD STANDINS          test: links lead somewhere, options exist, commands run
    docs.py BUILD --paste FILE...   run the commands on ../shared ($PQ_SHARED) and put their output
                                    into the blocks behind them

Blocks "```sh run" run one after the other in a scratch folder of their document, where STANDINS has
put small files under the names that they use. "```sh shared" are the same with the models and a few
pictures of ../shared, and are passed over without it. Blocks "```python run PACKAGE" run where
Python ($PQ_PYTHON, else python3) has the package. A block "```text output" right behind one is
what it printed. Exit status 3 (the budget cannot be met, INT8 is not worth it) is no failure."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parents[2]
python = os.environ.get('PQ_PYTHON', 'python3')
shared = pathlib.Path(os.environ.get('PQ_SHARED', root / '../shared')).resolve()
BLOCK = re.compile(r'^```(sh|python|text)([^\n]*)\n(.*?)^```$', re.M | re.S)
SHELL = '''set -euo pipefail
pquant() { command pquant "$@" || [ $? -eq 3 ]; }
'''
problems = []


def documents():
    return [root / 'README.md', root / 'sample/README.md', root / 'src/README.md',
            *sorted((root / 'docs').glob('*.md'))]


def anchors(text):
    """Headings as GitHub turns them into anchors."""
    text = re.sub(r'^```.*?^```$', '', text, flags=re.M | re.S)
    return {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-')
            for h in re.findall(r'^#+ (.*)$', text, flags=re.M)}


def check_links(doc, text):
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' in target:
            continue
        path, _, anchor = target.partition('#')
        other = (doc.parent / path).resolve() if path else doc
        if not other.exists():
            problems.append(f'{doc.relative_to(root)}: {target} does not exist')
        elif anchor and anchor not in anchors(other.read_text()):
            problems.append(f'{doc.relative_to(root)}: {target}: no such heading')


def commands(text):
    """Lines of code that call pquant, continued lines joined."""
    code = ''.join(re.findall(r'^```sh[^\n]*\n(.*?)^```$', text, flags=re.M | re.S))
    code += '\n'.join(re.findall(r'^    (.*)$', text, flags=re.M))
    code = re.sub(r'\\\n\s*', ' ', code)
    return re.findall(r'(?:^|[\s/])pquant ([a-z][a-z_-]*)([^\n|#>;&]*)', code, flags=re.M)


def check_options(doc, text, environment):
    for command, rest in commands(text):
        said = subprocess.run(['pquant', command, '--help'], capture_output=True, text=True,
                              env=environment)
        if said.returncode:
            problems.append(f'{doc.relative_to(root)}: pquant {command}: no such command')
            continue
        names = set(re.findall(r'(?<![\w-])--?\w[\w-]*', '\n'.join(
            line[:30] for line in said.stdout.splitlines())))
        for option in re.findall(r'(?<!\S)--?[a-z][\w-]*', rest):
            if option not in names:
                problems.append(f'{doc.relative_to(root)}: pquant {command} {rest.strip()}: '
                                f'no option {option}')


def lay_out_shared(folder, few):
    """The models, and pictures with their annotations: all, or the first few of each set."""
    for model in (shared / 'models').iterdir():
        (folder / model.name).symlink_to(model)
    for name in ('val2017', 'train2017'):
        pictures = sorted((shared / 'coco128/images' / name).iterdir())[:few]
        (folder / name).mkdir()
        for p in pictures:
            (folder / name / p.name).symlink_to(p)
        annotations = json.loads((shared / f'coco128/annotations/instances_{name}.json').read_text())
        names = {p.name for p in pictures}
        images = [i for i in annotations['images'] if i['file_name'] in names]
        ids = {i['id'] for i in images}
        annotations['images'] = images
        annotations['annotations'] = [a for a in annotations['annotations'] if a['image_id'] in ids]
        (folder / f'instances_{name}.json').write_text(json.dumps(annotations))
        (folder / 'picture.jpg').unlink(missing_ok=True)
        (folder / 'picture.jpg').symlink_to(pictures[0])


def run(kind, script, folder, environment):
    words = ['bash', '-c', SHELL + script] if kind == 'sh' else [python, '-c', script]
    return subprocess.run(words, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


def to_run(kind, words):
    """Which scratch folder a block runs in, or None."""
    if kind == 'text' or not {'run', 'shared'} & set(words):
        return None
    return 'shared' if 'shared' in words else 'run'


def is_missing(kind, which, words):
    if which == 'shared' and not (shared / 'models').is_dir():
        return True
    return kind == 'python' and subprocess.run([python, '-c', f'import {words[-1]}'],
                                               capture_output=True).returncode != 0


def make_scratch(folder, which, standins):
    folder.mkdir()
    if which == 'shared':
        lay_out_shared(folder, 2)
    else:
        subprocess.run([standins, folder], check=True)
    (folder / 'sample').symlink_to(root / 'sample')


def check_blocks(doc, text, standins, environment):
    """Number of blocks run and passed over."""
    done, passed = 0, 0
    with tempfile.TemporaryDirectory() as temp:
        for kind, words, script in BLOCK.findall(text):
            which = to_run(kind, words.split())
            if not which:
                continue
            if is_missing(kind, which, words.split()):
                passed += 1
                continue
            folder = pathlib.Path(temp) / which
            if not folder.exists():
                make_scratch(folder, which, standins)
            begun = time.monotonic()
            result = run(kind, script, folder, environment)
            done += 1
            print(f'{time.monotonic() - begun:6.1f} s  {doc.relative_to(root)}: '
                  f'{script.splitlines()[0]}')
            if result.returncode:
                problems.append(f'{doc.relative_to(root)}: exit status {result.returncode}:\n'
                                f'{script}{result.stdout}')
                break
    return done, passed


def paste(doc, environment):
    """Run every block of the document on the real files and renew the outputs behind them."""
    text = doc.read_text()
    output = None
    pieces, at = [], 0
    with tempfile.TemporaryDirectory() as temp:
        folder = pathlib.Path(temp)
        lay_out_shared(folder, None)
        (folder / 'sample').symlink_to(root / 'sample')
        for block in BLOCK.finditer(text):
            kind, words, body = block.groups()
            if kind == 'sh' and to_run(kind, words.split()):
                print(body, end='', flush=True)
                result = run(kind, body, folder, environment)
                print(result.stdout, flush=True)
                if result.returncode:
                    sys.exit(f'{doc}: exit status {result.returncode}')
                output = result.stdout
            elif kind == 'text' and words.split() == ['output'] and output is not None:
                pieces += [text[at:block.start(3)], output]
                at = block.end(3)
                output = None
    doc.write_text(''.join(pieces) + text[at:])


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    environment = dict(os.environ, PATH=f'{build}:{os.environ["PATH"]}', LC_ALL='C.UTF-8')
    if sys.argv[2] == '--paste':
        for name in sys.argv[3:]:
            paste(pathlib.Path(name).resolve(), environment)
        return 0
    done = passed = 0
    for doc in documents():
        text = doc.read_text()
        check_links(doc, text)
        check_options(doc, text, environment)
        d, p = check_blocks(doc, text, pathlib.Path(sys.argv[2]).resolve(), environment)
        done, passed = done + d, passed + p
    print(f'{done} blocks of commands run, {passed} passed over: no ../shared, or no package')
    for p in problems:
        print(p)
    return 1 if problems else 0


sys.exit(main())
