"""What is `inside` needs llama-index-core over our engine, so it is collected only there."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("llama_index") else ["inside"]
