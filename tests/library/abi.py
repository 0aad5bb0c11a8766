#!/usr/bin/env python3
"""The shared library's interface: it exports exactly the functions that the public headers declare,
all of them pq_*, under one symbol version; its soname, the headers and CMake agree on the version.
Usage: abi.py LIBRARY VERSION"""
import pathlib
import re
import shutil
import subprocess
import sys

library, version = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
abi = '.'.join(version.split('.')[:2])
root = pathlib.Path(__file__).resolve().parents[2]
problems = []


def say(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def declared():
    names = set()
    for header in sorted((root / 'include/pquant').glob('*.h')):
        text = re.sub(r'/\*.*?\*/', '', header.read_text(), flags=re.S)
        for text in re.findall(r'^PQ_API\b([^;{]*);', text, flags=re.M | re.S):
            names.add(re.search(r'\b(pq_\w+)\s*\(', text).group(1))
    return names


def exported():
    names = set()
    for line in say('nm', '-D', '--defined-only', library).splitlines():
        kind, name = line.split()[-2:]
        if kind == 'A':
            continue  # the symbol version itself
        plain, _, symbol_version = name.partition('@@')
        names.add(plain)
        if symbol_version != f'PQUANT_{abi}':
            problems.append(f'{plain}: version {symbol_version or "none"}, expected PQUANT_{abi}')
    return names


if not (shutil.which('nm') and shutil.which('readelf')):
    print('skipped: no nm or readelf')
    sys.exit(77)
want, got = declared(), exported()
problems += [f'{n}: exported, in no public header' for n in sorted(got - want)]
problems += [f'{n}: declared in a public header, not exported' for n in sorted(want - got)]
soname = re.search(r'SONAME.*\[(.*)\]', say('readelf', '-d', library)).group(1)
if soname != f'libpquant.so.{abi}':
    problems.append(f'soname {soname}, expected libpquant.so.{abi}')
header = re.search(r'PQ_VERSION_STRING "(.*)"', (root / 'include/pquant/base.h').read_text()).group(1)
if header != version:
    problems.append(f'base.h says version {header}, CMakeLists.txt {version}')
print(f'{len(got)} functions')
for p in problems:
    print(p)
sys.exit(1 if problems else 0)
