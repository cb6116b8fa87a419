"""Shared by the scripts of this folder: sweep, plot, report, export, weights, watch, lengths, peers/compare.

venv     run inside the project's virtual environment
program  calls to the ssmbench binary
designs  grid, one_off, zip_, random, latin: the lists that a sweep file is made of
width    model.d_model at which points have equal parameters, FLOPs or state
points   loading of a sweep file, seeds, validation
jobs     a point on its way to a results file, the verdict on its process
runner   workers on this machine, the lock of a folder, Ctrl-C
slurm    the same as a Slurm job array
estimate how long a point will take
screen   what a sweep shows
results  HDF5 result files as plain records
series   runs grouped into the lines of a plot; intervals
effects  differences between settings, bootstrap intervals
cases    what bench timed, for the figures
export   results as CSV and Parquet
weights  checkpoints and safetensors
words    numbers as people read them
marks    colours and markers of variants
style    ink, axes, ticks
figures  discovery and saving of scripts/figures/*.py
curves   accuracy curves with the task's reference lines
bars     one horizontal bar per variant
page     the self-contained HTML page
tables   the tables of that page, effect_tables and bench_table more of them
"""
