"""The papers' experiments on our models: `flexwave reproduce` prints their tables and draws their plots."""
