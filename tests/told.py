"""What was shown of files of one's own, by the name of each line."""


def told(splits):
    lines = {}
    for line in splits.info.details["lines"]:
        lines.setdefault(line.name, []).append(f"{line.taken_for} | {line.more}")
    return {name: "; ".join(several) for name, several in lines.items()}
