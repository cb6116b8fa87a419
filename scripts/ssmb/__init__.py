"""Shared by scripts/sweep, scripts/plot, scripts/report and scripts/peers/compare.

venv     run inside the project's virtual environment
program  calls to the ssmbench binary
points   grid, one_off, zip_: the lists that a sweep file is made of, and their validation
runner   workers, Ctrl-C, the verdict on a process
screen   what a sweep shows
results  HDF5 result files as plain records
series   runs grouped into the lines of a plot; intervals
words    numbers as people read them
style    colours, markers, axes
figures  discovery and saving of scripts/figures/*.py
curves   accuracy curves with the task's reference lines
bars     one horizontal bar per variant
page     the self-contained HTML page
tables   the tables of that page
"""
