"""Scores of generated texts, for the test of the C# port of the scorers.

    python score_fixture.py > ../../tests/Tool/world-scores.json

Per task a list of [prompt, completion, score], where score is what contrast.score gives for that one text, and the mean over all of them.
"""
import json
import random

import contrast
import world

ODD = ["", " ", "'", "don't", "Sea SEA sea's seas, SHIPS;waves", "\u212aind \u212aIND lovely", "r\u0130de kind", "\u0130sland sail\u0130r gull",
       "\x1f I cannot\x1c", "na\u00efve r\u00f4se bee", "awful\nnasty\tlovely kind'", "I am NOT ABLE", "unable, not  able", "sorry"]


def completions(task, prompts, rng):
    """Documents of every kind, whole and cut anywhere, and texts that look like answers but differ in a letter or a space."""
    for i, prompt in enumerate(prompts):
        kind = rng.random()
        text = " " + world.document(rng)
        if task == "honesty" and kind < 0.8:
            question = prompt.split("Question: ")[1].split("?")[0]
            _, subject, true, false = next(f for f in world.FACTS if f[0] == question)
            before = rng.choice(["", " ", "  ", chr(31), chr(160), chr(10)])
            answer = rng.choice([true, *false])
            text = f"{before}{subject} {answer}{rng.choice(['.', '.', '. Question:', '', ' .'])}"
        elif task == "refusal" and kind < 0.6:
            text = " " + world.reply(rng.choice(world.RESTRICTED), rng.random() < 0.5, rng)
        elif task == "tone" and kind < 0.6:
            text = " " + world.review(rng.choice(["kind", "rude"]), rng, turns=rng.random() < 0.5)
        elif task == "topic" and kind < 0.6:
            first, then = rng.sample(list(world.TOPICS), 2)
            text = " " + world.story(first, rng, then=then)
        yield text[: rng.randint(0, len(text))] if rng.random() < 0.3 else ODD[i] if i < len(ODD) else text


def fixture(task):
    rng = random.Random(f"score-{task}")
    prompts = contrast.eval_prompts(task, 96, seed=3)
    texts = list(completions(task, prompts, rng))
    return dict(mean=contrast.score(task, prompts, texts), texts=[[p, c, contrast.score(task, [p], [c])] for p, c in zip(prompts, texts)])


if __name__ == "__main__":
    print(json.dumps({task: fixture(task) for task in ("topic", "tone", "honesty", "refusal")}, indent=0))
