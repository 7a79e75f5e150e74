"""Names of scans: safe as file names, each another, the same whatever the order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coopseg.dicom.names import name_scans
from coopseg.dicom.types import Origin


def origin(patient: str, study: str = "1", date: str = "20240131", series: str = "5") -> Origin:
    numbers = (int(series),) if series.isdecimal() else ()
    rest = (), (), (), (), (), None, None, None, None
    return Origin(patient, study, date, (series,), numbers, "", "MR", "", *rest)


def test_names() -> None:
    assert name_scans([origin("P1"), origin("Rossi, A.")]) == ["P1", "Rossi-A"]
    two = [origin("P1"), origin("P1", "2", "20240301")]
    assert name_scans(two) == ["P1_20240131", "P1_20240301"]
    three = [*two, origin("P1", "2", "20240301", series="8")]
    assert name_scans(three) == ["P1_20240131", "P1_20240301_series5", "P1_20240301_series8"]
    same_day = [origin("P1", "2"), origin("p1", "1"), origin("P1", "1", series="x")]
    assert name_scans(same_day) == ["P1_20240131_series5-2", "p1_20240131_series5", "P1_20240131"]


@given(
    st.lists(
        st.builds(
            origin,
            st.one_of(
                st.text(max_size=90), st.sampled_from(["../../etc", ".hidden", "-rf", "a/b", "é", "É"])
            ),
            study=st.sampled_from("12"),
            date=st.sampled_from(["", "20240131", "../x"]),
            series=st.sampled_from(["5", "6", "x", ""]),
        ),
        max_size=8,
    )
)
def test_every_name_is_safe_and_another(origins: list[Origin]) -> None:
    names = name_scans(origins)
    assert len({name.casefold() for name in names}) == len(origins)
    for name in names:
        assert name.isprintable()
        assert not set('/\\:*?"<>| ') & set(name)
        assert name[0] not in ".-"
        assert 0 < len(f".{name}_ftn.nii.gz.1234567.tmp".encode()) <= 255
