"""Oracle: a text in the format of proc(5)."""

from benchmarks.empirical_ntk import status_mib

STATUS = 'Name:\tpython\nVmPeak:\t  999999 kB\nVmHWM:\t  204800 kB\nVmRSS:\t   51200 kB\n'


def test_sizes_are_in_mebibytes():
    assert status_mib(STATUS, 'VmHWM') == 200.0
    assert status_mib(STATUS, 'VmRSS') == 50.0
