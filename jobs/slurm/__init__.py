"""A study as a batch job of Slurm: Ray on the nodes of the job, the study on the first of them."""
