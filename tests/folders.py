"""Run folders made by hand."""

import json

from dl.runs.folder import RunFolder, to_json


def run(folder, losses, iou, step=20):
    """A finished run with these losses and a ``validation/iou`` at every evaluation."""
    folder.mkdir(parents=True)
    config = {"config": {"seed": len(losses), "rate": 0.1}, "steps": step}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "run.lock.json").write_text("{}")
    files = RunFolder(folder)
    for place, loss in enumerate(losses):
        metrics = {"validation/loss": loss, "validation/iou": iou}
        files.append(files.metrics, {"event": "eval", "step": 10 * place, "metrics": metrics})
    final = {"test/loss": losses[-1], "test/iou": iou}
    selected = {"rule": "-validation/loss", "step": step, "value": losses[-1]}
    result = {"metrics": final, "selected": selected, "ended": "done", "steps": step}
    files.result.write_text(json.dumps(to_json(result)))
    return folder
