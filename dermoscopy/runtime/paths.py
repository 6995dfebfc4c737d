"""Every path that two parts of the project know, relative to its top folder."""

from pathlib import Path

PARAMS = Path("params.yaml")

# listing
LISTING = Path("data/listing.csv")

# download
RAW = Path("data/raw")
DOWNLOADS = Path("data/.download")  # an interrupted download resumes from here

# manifest
MANIFEST = Path("data/manifest.csv")
INSPECTIONS = Path("data/.inspections.csv")  # what was read of each image, for the next run
REJECTED = Path("data/rejected.csv")
FOUND_LESIONS = Path("data/found_lesions.csv")  # in Git; tools.duplicates fills it
STATISTICS = Path("metrics/data.json")
CLASS_DISTRIBUTION = Path("plots/class_distribution.csv")

# split
SPLIT = Path("data/split.csv")

# backbone
BACKBONE = Path("models/backbone")

# finetune
FINETUNED = Path("models/finetuned")
TUNING = Path("models/.finetune")  # an interrupted run resumes from here
ACTIVATIONS = Path("data/.activations")  # what the frozen layers make of the views

# features
FEATURES = Path("data/features")
CHUNKS = Path("data/.features")  # an interrupted run of the backbone resumes from here

# train
HEAD = Path("models/head.npz")
HEAD_INFO = Path("models/head.json")
PREDICTIONS = Path("data/predictions.csv")
PREDICTIONS_TTA = Path("data/predictions_tta.csv")
IMAGE_ONLY = Path("data/predictions_image_only.csv")  # empty without clinical data
TRAINING_LOG = Path("metrics/training")
TRAINING_CURVES = TRAINING_LOG / "plots/metrics"

# evaluate
METRICS = Path("metrics/metrics.json")
SUBGROUPS = Path("metrics/subgroups.csv")
CLINICAL_GAIN = Path("metrics/clinical_gain.csv")
CONFUSION_MATRIX = Path("plots/confusion_matrix.csv")
CONFUSION_MATRIX_PICTURE = Path("plots/confusion_matrix.png")
ROC = Path("plots/roc.csv")
PRECISION_RECALL = Path("plots/precision_recall.csv")
RELIABILITY = Path("plots/reliability.csv")
TRADE_OFF = Path("plots/trade_off.csv")

# report
PAGE = Path("report/index.html")
MODEL_CARD = Path("report/MODEL_CARD.md")

# tools
CLASSIFIER = Path("models/classifier.keras")
CROSSVALIDATION = Path("metrics/crossvalidation.json")
REPETITIONS = Path("metrics/repetitions.json")
ENSEMBLE = Path("metrics/ensemble.json")
DUPLICATES = Path("metrics/duplicates.csv")
EXTERNAL = Path("external")
SCREENSHOTS = Path("report/screenshots")
FIGURES = Path("report/figures")
