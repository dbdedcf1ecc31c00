#!/usr/bin/env bash
# wfdb reads numbers and units of a valid header as other ones, without a word.
#
# Guess: a gain of 5.0E-4 (as Java and .NET write 0.0005) is 0.0005, a rate of 2.5e2 is 250 Hz, and a
#   unit of µV is either read as such or refused.
# Behaviour: the gain is 5.0 and the rest of the line becomes the lead's name, the rate is 2.5 Hz, the
#   unit is V. Voltages are wrong by 10,000 and 1,000,000, times by 100. A lower-case exponent is
#   understood in the gain, and in the rate it is not.
# Who meets it: readers of records whose headers were written by other programs than wfdb, or by hand.
# The header's definition asks for floating-point numbers, and WFDB's own C library reads them by scanf.
set -eu
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check wfdb==4.3.1
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import wfdb

np.array([10, -20, 30, -40], dtype="<i2").tofile("ecg.dat")


def read(record_line, gain_and_unit):
    with open("ecg.hea", "w", encoding="utf-8") as header:
        header.write(f"{record_line}\necg.dat 16 {gain_and_unit} 16 0 10 -20 0 II\n")
    return wfdb.rdrecord("ecg")


print("wfdb", wfdb.__version__)
plain = read("ecg 1 250 4", "0.0005(0)/nV")
print("gain 0.0005:", plain.adc_gain, plain.sig_name, plain.p_signal.ravel())
upper = read("ecg 1 250 4", "5.0E-4(0)/nV")
print("gain 5.0E-4:", upper.adc_gain, upper.sig_name, upper.p_signal.ravel())
lower = read("ecg 1 250 4", "5.0e-4(0)/nV")
print("gain 5.0e-4:", lower.adc_gain, lower.sig_name, lower.p_signal.ravel())
rate = read("ecg 1 2.5e2 4", "200(0)/mV")
print("rate 2.5e2:", rate.fs, "Hz")
micro = read("ecg 1 250 4", "1(0)/\u00b5V")
print("unit \u00b5V:", micro.units, micro.p_signal.ravel())
as_described = (
    plain.adc_gain == [0.0005] and plain.sig_name == ["II"]
    and upper.adc_gain == [5.0] and upper.sig_name != ["II"]
    and lower.adc_gain == [0.0005] and rate.fs == 2.5 and micro.units == ["V"]
)
print("as described" if as_described else "changed")
sys.exit(0 if as_described else 1)
PYTHON
