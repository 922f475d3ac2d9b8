"""redraft: learn from how people edit what a model wrote.

Importing the package loads its vocabulary only: no torch, no database driver.
"""

from redraft.errors import RedraftError
from redraft.types import Completion, Context, Decision, Edit, Interaction, Message, PolicyRef

__version__ = "0.1.0"

__all__ = [
    "Completion",
    "Context",
    "Decision",
    "Edit",
    "Interaction",
    "Message",
    "PolicyRef",
    "RedraftError",
    "__version__",
]
