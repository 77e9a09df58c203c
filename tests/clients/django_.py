"""Django: its schema editor and ORM, with its defaults (a client-side cursor, server-side for iterator())."""

from urllib.parse import urlsplit

import django
from django.conf import settings

from matrix import URL, WORKERS, threads

url = urlsplit(URL)
settings.configure(
    USE_TZ=True,
    TIME_ZONE="Europe/Berlin",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": url.username,
            "HOST": url.hostname,
            "PORT": url.port,
        }
    },
)
django.setup()

from django.db import DatabaseError, IntegrityError, connection, models, transaction  # noqa: E402
from django.db.models import F  # noqa: E402


def model(number):
    meta = type("Meta", (), {"app_label": "matrix", "db_table": f"django_{number}"})
    fields = {
        "__module__": "matrix",
        "Meta": meta,
        "name": models.CharField(max_length=50, unique=True),
        "votes": models.IntegerField(default=0),
        "at": models.DateTimeField(auto_now_add=True),
        "data": models.JSONField(null=True),
    }
    return type(f"Photo{number}", (models.Model,), fields)


PHOTOS = {}


def exercise(t):
    Photo = PHOTOS[t.number]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS django_{t.number}")
    with connection.schema_editor() as editor:
        editor.create_model(Photo)
    t.say("ids", [Photo.objects.create(name=f"p{i}", data={"i": [i]}).pk for i in range(20)])
    t.say("names", [Photo.objects.get(pk=i).name for i in range(1, 21)])
    t.say("updated", Photo.objects.filter(pk=3).update(votes=F("votes") + 1), Photo.objects.get(pk=3).votes)
    t.say("json", Photo.objects.get(data__i=[7]).name)
    Photo.objects.bulk_create([Photo(name=f"b{i}") for i in range(300)])
    t.say("iterator", len(list(Photo.objects.order_by("pk").iterator(chunk_size=50))))
    with transaction.atomic():
        locked = Photo.objects.select_for_update().get(pk=1)
        try:
            with transaction.atomic():
                Photo.objects.create(name="p1")
        except IntegrityError as error:
            t.say("error", error.__cause__.sqlstate)
        locked.name = "locked"
        locked.save()
    t.say("saved", Photo.objects.get(pk=1).name)
    try:
        with transaction.atomic():
            Photo.objects.all().delete()
            raise KeyError
    except KeyError:
        t.say("rolled back", Photo.objects.count())
    t.say("created", Photo.objects.get_or_create(name="p5")[1], Photo.objects.update_or_create(name="new", defaults={"votes": 4})[1])
    with connection.cursor() as cursor:
        try:
            cursor.execute("SELECT 1 / 0")
        except DatabaseError as error:
            t.say("error", error.__cause__.sqlstate)
        cursor.execute("SHOW timezone")
        t.say("timezone", cursor.fetchone())
        cursor.execute("SELECT pg_advisory_lock(5001)")
        cursor.execute("SELECT pg_advisory_unlock(5001)")
        t.say("unlocked", cursor.fetchone())
    t.say("introspected", len(connection.introspection.get_table_description(connection.cursor(), f"django_{t.number}")))
    with connection.schema_editor() as editor:
        editor.delete_model(Photo)
    connection.close()


for number in range(WORKERS):
    PHOTOS[number] = model(number)
threads(exercise)
