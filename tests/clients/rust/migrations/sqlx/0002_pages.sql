ALTER TABLE books ADD pages int;
CREATE INDEX books_pages ON books (pages);
