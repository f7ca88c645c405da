"""Field type ``categories``: lists of categories, ragged int64 codes."""

from __future__ import annotations

import pyarrow as pa

from embedkit.data.coded_lists import CodedLists
from embedkit.data.lists import Lists, read_lists
from embedkit_tabular.fields import CategoriesOptions


class Categories(CodedLists):
    """Lists of categories in no order that matters: tags, genres, colours."""

    config: CategoriesOptions

    def lists(self, values: pa.Array) -> Lists:
        """All members of a list column, or of texts cut at the separator."""
        return read_lists(values, self.context.spec, separator=self.config.separator)
