"""The behaviour contract as the tree tells it: the promises, and the tests that cite them.

The promises stand in tests/mutants.toml. A test cites them in a comment above its attributes, as
`// contract: D24` or `// contract: D24, E29`. The scripts `contract-mutants` and `contract-page` use this.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "tests/mutants.toml"

CITATION = re.compile(r"^\s*// contract:((?:[ ,]+[A-Z]\d+)+)\s*$")
FUNCTION = re.compile(r"\bfn (\w+)")


def manifest():
    """The tables of tests/mutants.toml: `sections`, `promises` and `mutant`."""
    return tomllib.loads(MANIFEST.read_text())


def number(line):
    return int(line[1:])


class Test:
    """A function that cites lines, and the test target that it is in."""

    def __init__(self, file, function):
        self.file, self.function = file, function
        parts = Path(file).parts
        self.prefix = ""
        if parts[0] == "src":
            self.target = "lib"
            self.prefix = "::".join(Path(*parts[1:]).with_suffix("").parts) + "::"
        elif parts[0] == "adapters":
            # Its macros make tests in modules of their own.
            self.target = parts[2]
        elif parts[0] == "tests":
            self.target = Path(parts[1]).stem
            if len(parts) > 2:
                self.prefix = Path(parts[2]).stem + "::"
        else:
            # An example: what runs it is up to the entry.
            self.target = None

    def is_called(self, name):
        """Several tests, where a macro makes them."""
        return name.startswith(self.prefix) and name.split("::")[-1] == self.function


def citations():
    """Line → the tests that cite it."""
    cited = {}
    for folder in ("src", "tests", "adapters", "examples"):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            lines = path.read_text().splitlines()
            for at, text in enumerate(lines):
                found = CITATION.match(text)
                if not found:
                    continue
                function = next(filter(None, map(FUNCTION.search, lines[at + 1 :])), None)
                if not function:
                    sys.exit(f"{path}:{at + 1}: cites for no function")
                test = Test(str(path.relative_to(ROOT)), function[1])
                for line in re.findall(r"[A-Z]\d+", found[1]):
                    cited.setdefault(line, []).append(test)
    return cited
