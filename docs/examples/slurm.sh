#!/bin/bash
# sbatch docs/examples/slurm.sh, from the top folder of the project, on a file system that all nodes share, after
# make gpu cluster there.
#SBATCH --job-name=dermoscopy
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
# Most sites also want --partition and --account here.
#SBATCH --time=01:00:00
set -euo pipefail

source .venv/bin/activate
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null  # into ~/.ray: without it, any user of the network could run code in the job
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$(getent ahostsv4 "$head" | awk 'NR == 1 { print $1 }'):6379"

# Ray starts on every node, the command runs on the first, and Ray ends with it.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ray symmetric-run --address "$address" --min-nodes "$SLURM_NNODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
  -- env RAY_ADDRESS=auto dvc repro
