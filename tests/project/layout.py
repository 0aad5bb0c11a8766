#!/usr/bin/env python3
"""The source tree keeps its rules: src/README.md's map agrees with the folders and headers, a folder
includes only what stands before it, the library neither prints nor exits, docs and files stay
short."""
import pathlib
import re
import subprocess
import sys

ORDER = """base tensor graph read pass plan export engine data detect evaluate calibrate correct
bench latency sensitivity select audit report cli""".split()
MOST_LINES = 800
root = pathlib.Path(__file__).resolve().parents[2]
problems = []


def files():
    try:
        names = subprocess.run(['git', 'ls-files'], cwd=root, capture_output=True, text=True,
                               check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [str(p.relative_to(root)) for d in ('src', 'include', 'tests', 'docs')
                 for p in (root / d).rglob('*') if p.is_file()]
    return [n for n in names if (root / n).is_file()]


def code_without_comments(text):
    text = re.sub(r'/\*.*?\*/', lambda m: '\n' * m.group().count('\n'), text, flags=re.S)
    return re.sub(r'"(\\.|[^"\\])*"', '""', text)


def check_includes(name, text, stage_of_header):
    stage = name.split('/')[1]
    for line, target in re.findall(r'^(#include [<"]([^>"]+)[>"])', text, flags=re.M):
        part = target.split('/')
        if part[0] == 'pquant' and len(part) == 2:
            other = stage_of_header.get(part[1], part[1].rsplit('.', 1)[0])
        elif len(part) > 1 and part[0] in ORDER:
            other = part[0]
        else:
            continue
        if other == 'pquant' and stage == 'cli':
            continue
        if other not in ORDER or ORDER.index(other) > ORDER.index(stage):
            problems.append(f'{name}: {line}: {stage} stands before {other}')


def check_quiet(name, text):
    code = code_without_comments(text)
    for word in re.finditer(r'(?<![\w.>])(printf|puts|putchar|perror|exit|_exit|abort|quick_exit)'
                            r'\s*\(', code):
        line = code.count('\n', 0, word.start()) + 1
        problems.append(f'{name}:{line}: the library calls {word.group(1)}')
    for word in re.finditer(r'\b(stdout|stderr)\b', code):
        line = code.count('\n', 0, word.start()) + 1
        problems.append(f'{name}:{line}: the library uses {word.group(1)}')


def check_map(names):
    text = (root / 'src/README.md').read_text()
    rows = re.findall(r'^\| (\w+) \| `src/(\w+)/` \| (.*?) \|', text, flags=re.M)
    folders = {n.split('/')[1] for n in names if n.startswith('src/') and n.count('/') > 1}
    if [r[1] for r in rows] != [s for s in ORDER if s in {r[1] for r in rows}]:
        problems.append('src/README.md: rows are not in the include order')
    for folder in sorted(folders - {r[1] for r in rows}):
        problems.append(f'src/README.md: no row for src/{folder}/')
    for _, folder, header in rows:
        if folder not in folders:
            problems.append(f'src/README.md: src/{folder}/ does not exist')
        for h in re.findall(r'`(\w+\.h)`', header):
            if f'include/pquant/{h}' not in names:
                problems.append(f'src/README.md: include/pquant/{h} does not exist')
    listed = set(re.findall(r'`(\w+\.h)`', text)) | {'pquant.h'}
    for n in names:
        if re.fullmatch(r'include/pquant/\w+\.h', n) and n.split('/')[-1] not in listed:
            problems.append(f'src/README.md: no row names {n}')
    umbrella = (root / 'include/pquant/pquant.h').read_text()
    for n in names:
        if re.fullmatch(r'include/pquant/(?!pquant)\w+\.h', n):
            if f'<pquant/{n.split("/")[-1]}>' not in umbrella:
                problems.append(f'include/pquant/pquant.h: {n} is not in it')
    for doc in re.findall(r'\]\(((?:\.\./)?docs/[\w.-]+)\)', text):
        if not (root / 'src' / doc).resolve().exists():
            problems.append(f'src/README.md: {doc} does not exist')


def main():
    names = files()
    stage_of_header = {'op.def': 'graph'}
    for folder, headers in re.findall(r'^\| \w+ \| `src/(\w+)/` \| (.*?) \|',
                                      (root / 'src/README.md').read_text(), flags=re.M):
        stage_of_header.update((h, folder) for h in re.findall(r'`(\w+\.h)`', headers))
    for name in names:
        if not re.search(r'\.(c|h|cu|cuh|cpp|hpp)$', name):
            if re.fullmatch(r'docs/[\w-]+\.md', name):
                n = len((root / name).read_text().splitlines())
                if n > 200:
                    problems.append(f'{name}: {n} lines, at most 200')
            continue
        text = (root / name).read_text()
        if len(text.splitlines()) > MOST_LINES and not name.endswith('_table.c'):
            problems.append(f'{name}: {len(text.splitlines())} lines, at most {MOST_LINES}')
        if name.startswith('src/') and name.count('/') > 1:
            check_includes(name, text, stage_of_header)
            if not name.startswith('src/cli/'):
                check_quiet(name, text)
    check_map(names)
    for p in problems:
        print(p)
    return 1 if problems else 0


sys.exit(main())
