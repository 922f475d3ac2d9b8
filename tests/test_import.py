"""What a newcomer's first import and first command cost."""

import subprocess
import sys


def test_import_loads_no_torch() -> None:
    code = "import redraft, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
