"""What the Python exercises share: many clients at once, each with a transcript of its own, which must all be alike."""

import os
import sys
import threading

URL = os.environ["DATABASE_URL"]
WORKERS = int(os.environ.get("WORKERS", "50"))


class Transcript:
    """The lines of one client. `number` tells it apart from the others; its lines must not show it."""

    def __init__(self, number):
        self.number = number
        self.lines = []

    def say(self, what, *values):
        self.lines.append(f"{what}: {' '.join(str(value) for value in values)}")


def report(transcripts):
    """Prints the transcript that most clients have, and each that is another."""
    texts = ["\n".join(transcript.lines) for transcript in transcripts]
    usual = max(sorted(set(texts)), key=texts.count)
    print(usual)
    print(f"{texts.count(usual)} of {len(texts)} clients alike")
    for text in sorted(set(texts) - {usual}):
        print(f"---- {texts.count(text)} other:\n{text}")
    sys.stdout.flush()


def threads(exercise):
    """Runs `exercise(transcript)` in threads."""
    transcripts = [Transcript(number) for number in range(WORKERS)]

    def one(transcript):
        try:
            exercise(transcript)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the transcript
            transcript.say("FAILED", type(error).__name__, error)

    workers = [threading.Thread(target=one, args=[transcript]) for transcript in transcripts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    report(transcripts)


def tasks(exercise):
    """Runs `exercise(transcript)` as tasks of one event loop."""
    import asyncio

    transcripts = [Transcript(number) for number in range(WORKERS)]

    async def one(transcript):
        try:
            await exercise(transcript)
        except Exception as error:  # noqa: BLE001
            transcript.say("FAILED", type(error).__name__, error)

    async def everybody():
        await asyncio.gather(*(one(transcript) for transcript in transcripts))

    asyncio.run(everybody())
    report(transcripts)
