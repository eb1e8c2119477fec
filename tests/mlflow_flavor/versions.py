"""What older versions of MLflow do not have; the flavor supports 3.11 and later."""

from __future__ import annotations

import pytest

from mlflow_flavor._compat import HAS_LINKS

from_3_15 = pytest.mark.skipif(
    not HAS_LINKS, reason="runs with MLflow 3.15 and later, whose exporter stores spans in the database"
)
needs_links = pytest.mark.skipif(not HAS_LINKS, reason="runs with MLflow 3.15 and later, which have span links")
