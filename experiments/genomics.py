"""Classes of DNA: convolutions that read both strands with the same weights, with or without attention, beside
logistic regression; the motifs found are drawn as sequence logos.

Data: splice junctions of primates; promoters of Arabidopsis and E. coli; --data FILE of sequences and labels, or a
folder with a FASTA file for each class. Equal sequences are in one part. Reference: splice .958 (logistic
regression), MCC .871/.752 with and without TATA (the same); CNNProm (Umarov & Solovyev 2017).
"""

import dataclasses

import numpy as np

import dl
from dl.baselines.bases import linear_bases
from dl.baselines.majority import majority
from dl.data.own.texts import OwnTexts
from dl.figures.logos import motifs, sequence_logos
from dl.models.genomics import SequenceNetwork, base_codes
from dl.scores.tabular import class_scores
from dl.tasks.classification import classification


@dataclasses.dataclass(frozen=True)
class Config(OwnTexts, dl.Members, dl.Recipe):
    data: str = "splice"
    """splice, promoters_tata, promoters_non_tata, promoters_ecoli, or files of your own"""
    together: bool = True
    """keep equal sequences in one part, and those of the other strand with them"""
    filters: int = 64
    """for motifs, half of them for each strand"""
    window: int = 11
    """of a motif, in bases"""
    layers: int = 2
    """of convolution after the motifs"""
    attention: int = 0
    """layers of a Transformer over the places; 0 for none"""
    both: bool = False
    """a sequence and its other strand are the same: the class does not hang on the direction"""
    places: int = 32
    """pieces of a sequence that are told apart at the end"""
    direct: bool = False
    """add a linear map of every base at its place, which suits few aligned sequences"""
    longest: int = 1000
    """bases of a sequence that are read"""
    epochs: int = 25
    dropout: float = 0.3
    label_smoothing: float = 0.1
    weight_decay: float = 0.05
    ema: float | None = 0.99


@dl.prepared
def coded(config: Config):
    splits = dl.data.open(config.data, "texts", config)
    length = min(config.longest, max(map(len, splits.train["text"])))
    return splits.map(
        lambda part: {"bases": base_codes(part["text"], length), "label": part["label"]}
    )


def build(config: Config) -> dl.Experiment:
    splits = coded(config)
    classes, held = splits.info.classes, splits.validation
    sizes = config.filters, config.window, config.layers, config.attention, config.both
    read = config.dropout, config.places, config.direct
    model = SequenceNetwork(len(classes), *sizes, *read)
    task = classification(
        model, inputs="bases", prepare=lambda x: x, label_smoothing=config.label_smoothing
    )

    def views(predictor):
        kernel = np.asarray(predictor.variables["params"]["motifs"]["kernel"])
        kernel = kernel[0] if config.members > 1 else kernel
        return {"motifs": sequence_logos(motifs(kernel, held["bases"][:500]))}

    return config.experiment(
        dl.ensemble(task, config.members),
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        **dl.held_out(splits, 256),
        select="validation/mcc",
        classes=classes,
        names={"bases": (*"ACGT", "other")},
        measure=lambda own, rows, name: class_scores(rows["label"], own(rows)),
        views=views,
        baselines=lambda: {
            "majority": majority(splits),
            "logistic regression": linear_bases(splits),
        },
    )


if __name__ == "__main__":
    dl.main(Config, build)
