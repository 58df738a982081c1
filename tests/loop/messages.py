"""Messages about a few topics, each with a value that its words give away."""

import csv
import random

from tests.fixtures.prepared_rows import FILLERS, TOPICS

WORTH = {"card": 0.0, "payment": 10.0, "printer": 20.0}


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def messages(count, seed):
    """So many different texts with a topic, and what a message of it is worth."""
    generator, found = random.Random(seed), {}
    while len(found) < count:
        topic = sorted(TOPICS)[len(found) % len(TOPICS)]
        words = generator.choices(TOPICS[topic], k=3) + generator.choices(FILLERS, k=6)
        generator.shuffle(words)
        found.setdefault(" ".join(words), topic)
    return [
        {"text": text, "topic": topic, "worth": round(WORTH[topic] + generator.uniform(-2, 2), 3)}
        for text, topic in found.items()
    ]
