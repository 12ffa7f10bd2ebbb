"""How large the pages of a file should be."""

from __future__ import annotations

PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)


def choose_page_size(row_bytes: int) -> int:
    """The page size that takes the least room for rows of this size.

    Rows that fit a page share it, as many as fit; of a larger row SQLite fills whole pages and leaves the rest in one
    that rows share (https://www.sqlite.org/fileformat.html, section 1.6).
    """

    def room(page: int) -> float:
        local, pages = row_bytes, 0
        if row_bytes > page - 35:
            least = (page - 12) * 32 // 255 - 23
            local = least + (row_bytes - least) % (page - 4)
            local = local if local <= page - 35 else least
            pages = -(-(row_bytes - local) // (page - 4))
        return pages * page + page / ((page - 8) // (local + 12))

    return min(PAGE_SIZES, key=room)
