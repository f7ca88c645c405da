"""UCI Online Retail: a year of invoices."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from embedkit.data.dataset import Card, Dataset, Prepared
from embedkit.errors import DataError
from embedkit.files import make_folder
from embedkit_datasets.download import Remote, download, opened_zip
from embedkit_datasets.files import Log, check_digest, read_prepared, write_run_file, write_tables
from embedkit_datasets.xlsx import first_sheet, moment

if TYPE_CHECKING:
    import polars as pl

ARCHIVE = Remote("https://archive.ics.uci.edu/static/public/352/online+retail.zip")
"""Packed by the site on its own terms; what is checked is the workbook inside."""
WORKBOOK = "Online Retail.xlsx"

CHECKSUMS = {
    WORKBOOK: "sha256:43465a06f2ccf7c8b5bd2892bc7defb52f97487934fe93b16ae4c3936424676d",
    "transactions.parquet": "sha256:5344c81b0f11502c01be6b2695e98b42efa9e7bc1ce43c0cb3ee5209a5f53f2e",
}
TABLES = {
    "transactions": "a line of an invoice: invoice_no, stock_code, description, quantity, invoice_date, unit_price, customer_id, country",
}

HEADER = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]


class OnlineRetail(Dataset):
    """541,909 invoice lines of a British gift shop, December 2010 to December 2011."""

    archive = ARCHIVE
    checksums = CHECKSUMS

    @property
    def card(self) -> Card:
        """The data set's card."""
        return Card(
            name="online_retail",
            title="UCI Online Retail: a year of a gift shop's invoices",
            description=(
                "All 541,909 invoice lines of a British online shop for gifts, 2010-12-01 to 2011-12-09: 25,900 invoices, 4,372 customers "
                "(many of them wholesalers), 4,070 stock codes, 38 countries. Kept as published, so beware: invoices that begin with C are "
                "cancellations with a negative quantity; 135,080 lines name no customer and 1,454 have no description; 2,517 prices are "
                "not positive; codes such as POST and M are postage and manual entries; a stock code may have several descriptions and "
                "prices. The starter run file leaves such lines out and derives a table of items. Lines of one invoice share its time. "
                "Spaces around a description are cut off. Times are local."
            ),
            licence="CC BY 4.0 (UCI Machine Learning Repository)",
            citation="Daqing Chen. 2015. Online Retail [Dataset]. UCI Machine Learning Repository. https://doi.org/10.24432/C5BW33",
            source=self.archive.url,
            checksums=self.checksums,
            tables=TABLES,
        )

    def prepare(self, out: Path, *, prepared: Path | None = None, log: Callable[[str], Any] = lambda line: None) -> Prepared:
        """Write ``transactions`` and the starter run file into ``out``, from the original workbook (about a minute) or a prepared copy.

        Raises:
            DataError: a file is missing, cannot be fetched or parsed, or is not the recorded one.
        """
        frames = {"transactions": self._download(log)} if prepared is None else read_prepared(prepared, self.checksums, TABLES, log)
        make_folder(out)
        return Prepared(write_tables(frames, out, log), write_run_file("online_retail", out, log))

    def _download(self, log: Log) -> pl.DataFrame:
        with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
            path = Path(folder) / "online_retail.zip"
            download(self.archive, path, log)
            with opened_zip(path, WORKBOOK) as archive:
                workbook = Path(archive.extract(WORKBOOK, folder))
            check_digest(workbook, self.checksums[WORKBOOK], "the file at the source has changed; use --from with a prepared copy")
            log(f"reading {WORKBOOK}")
            with workbook.open("rb") as file:
                return transactions_of(file)


def transactions_of(file: IO[bytes]) -> pl.DataFrame:
    """The workbook's rows with typed columns, in its order.

    Raises:
        DataError: another header, or a cell that cannot be read as its column's type.
    """
    import polars as pl

    rows = first_sheet(file, WORKBOOK)
    header = next(rows, [])
    if header != HEADER:
        raise DataError(f"{WORKBOOK}: its columns are {header}, wanted {HEADER}")
    schema: dict[str, Any] = {
        "invoice_no": pl.String, "stock_code": pl.String, "description": pl.String, "quantity": pl.Int32,
        "invoice_date": pl.Datetime("us"), "unit_price": pl.Float64, "customer_id": pl.Int32, "country": pl.String,
    }  # fmt: skip
    return pl.DataFrame(list(_typed(rows)), schema=schema, orient="row")


def _typed(rows: Iterable[list[str | None]]) -> Iterator[tuple[Any, ...]]:
    for number, row in enumerate(rows, start=2):
        invoice, code, description, quantity, date, price, customer, country = row + [None] * (len(HEADER) - len(row))
        try:
            yield (
                _clean(invoice), _clean(code), _clean(description), int(float(quantity or "")), moment(date or ""), float(price or ""),
                None if customer is None else int(float(customer)), _clean(country),
            )  # fmt: skip
        except ValueError as error:
            wanted = "wanted numbers in Quantity, InvoiceDate, UnitPrice and CustomerID"
            raise DataError(f"{WORKBOOK}, row {number}: {error}; {wanted}") from error


def _clean(text: str | None) -> str | None:
    return (text.strip() or None) if text is not None else None
