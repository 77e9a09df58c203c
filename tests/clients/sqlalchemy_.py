"""SQLAlchemy, the ORM: over psycopg in threads, over asyncpg in tasks."""


from sqlalchemy import ForeignKey, MetaData, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from matrix import URL, tasks, threads


def models(prefix):
    class Base(DeclarativeBase):
        metadata = MetaData()

    class Author(Base):
        __tablename__ = f"{prefix}_author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        books: Mapped[list["Book"]] = relationship(order_by="Book.id")

    class Book(Base):
        __tablename__ = f"{prefix}_book"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        author_id: Mapped[int] = mapped_column(ForeignKey(Author.id))

    return Base, Author, Book


def work(t, conn, prefix):
    """What both do, on a connection that has no transaction open."""
    Base, Author, Book = models(prefix)
    Base.metadata.drop_all(conn)
    Base.metadata.create_all(conn)
    conn.commit()
    with Session(conn) as session:
        session.add_all(Author(name=f"a{i}", books=[Book(title=f"b{i}.{j}") for j in range(3)]) for i in range(10))
        session.commit()
        t.say("ids", session.scalars(select(Author.id).order_by(Author.id)).all())
        session.commit()
    with Session(conn) as session:
        for i in range(10):
            author = session.scalars(select(Author).where(Author.name == f"a{i}")).one()
            t.say("books", [book.title for book in author.books])
        session.rollback()
        try:
            with session.begin_nested():
                session.add(Author(name="a1"))
        except IntegrityError as error:
            t.say("error", error.orig.sqlstate)
        author.name = "renamed"
        session.commit()
        t.say("renamed", session.scalar(select(func.count()).select_from(Author).where(Author.name == "renamed")))
        session.delete(author.books[0])
        session.flush()
        session.rollback()
        t.say("count", session.scalar(select(func.count()).select_from(Book)))
        session.commit()
    try:
        conn.execute(text("SELECT 1 / 0"))
    except DBAPIError as error:
        t.say("error", error.orig.sqlstate)
    conn.rollback()
    rows = conn.execute(text("SELECT generate_series(1, 1000)").execution_options(yield_per=100)) if t.streams else ()
    t.say("stream", sum(row[0] for row in rows))
    conn.rollback()
    conn.execute(text("SELECT set_config('timezone', 'Asia/Tokyo', true)"))
    t.say("set", conn.execute(text("SHOW timezone")).scalar())
    conn.rollback()
    Base.metadata.drop_all(conn)
    conn.commit()


def threaded(t):
    t.streams = True
    engine = create_engine(URL.replace("postgresql:", "postgresql+psycopg:"), pool_size=1)
    with engine.connect() as conn:
        work(t, conn, f"sa_psycopg_{t.number}")
    with engine.connect() as conn:
        t.say("again", conn.execute(text("SELECT 1")).scalar())
    engine.dispose()


async def asynchronous(t):
    t.streams = False
    engine = create_async_engine(URL.replace("postgresql:", "postgresql+asyncpg:"), pool_size=1)
    async with engine.connect() as conn:
        await conn.run_sync(lambda sync: work(t, sync, f"sa_asyncpg_{t.number}"))
    async with engine.connect() as conn:
        rows = await conn.stream(text("SELECT generate_series(1, 1000)"))
        t.say("stream", sum([row[0] async for row in rows]))
    await engine.dispose()


threads(threaded)
tasks(asynchronous)
