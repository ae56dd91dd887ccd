"""What a section says of a verdict in its first lines, and what it leaves to its tables."""

import dataclasses
import math
from dataclasses import dataclass

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.evidence import Estimate, by_examples
from loopscope.common.price import Price
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.recorder.within_budget import Fitted
from loopscope.reports.section_numbers import conclusions_of, evidence_line, numbers_of, verdict_line


class Weather(Verdict):
    dry = "It is dry: " + "no rain falls anywhere, as far as can be seen, " * 4
    wet = "It is wet."
    mixed = "Some days are dry: " + "others are quite the opposite of dry, " * 4
    unclear = UNCLEAR


@dataclass(frozen=True)
class WeatherResult(AnalysisResult):
    verdict: Weather

    def summary(self) -> str:
        return self.sentence


def result_of(*days: Weather) -> WeatherResult:
    verdict, evidence = by_examples(days, mixed=Weather.mixed, unclear=Weather.unclear)
    return WeatherResult(verdict, evidence=evidence)


def test_an_unclear_verdict_is_said_in_words_and_its_conclusions_are_in_the_table():
    result = result_of(*[Weather.dry] * 15, Weather.wet)
    assert result.verdict is Weather.unclear
    assert verdict_line(result) == "Unclear: these numbers allow “It is dry” and “Some days are dry”."
    assert "“It is dry”: 15 of 16 examples" in evidence_line(result.evidence)
    table = conclusions_of(result)
    assert table is not None and [row[:2] for row in table.rows] == [
        ("dry", Weather.dry.sentence),
        ("mixed", Weather.mixed.sentence),
        ("wet", Weather.wet.sentence),
    ]
    assert [row[2] for row in table.rows] == ["94 %", "", "6 %"]


def test_of_many_conclusions_the_first_two_are_said_and_the_table_has_all():
    class Sky(Verdict):
        blue = "It is blue."
        grey = "It is grey."
        black = "It is black."
        red = "It is red."
        mixed = "It differs."
        unclear = UNCLEAR

    v = Sky
    days = [*[v.blue] * 6, *[v.grey] * 3, *[v.black] * 2, v.red]
    for count, rest in ((9, None), (11, "; another conclusion in the rest"), (12, "; 2 other conclusions")):
        verdict, evidence = by_examples(days[:count], mixed=v.mixed, unclear=v.unclear)
        line = evidence_line(evidence)
        assert line.startswith("“It is blue”: 6 of") and "“It is grey”: 3 of" in line
        assert "“It is black”" not in line and (rest is None) == ("in the rest." not in line)
        assert rest is None or rest in line
        price, whole = Price(50.0), Price(200.0)
        note = Fitted(None, {}, price, whole, ("examples=4",)).note("60 passes")  # pyright: ignore[reportArgumentType]
        cut = evidence_line(dataclasses.replace(evidence, how=evidence.how + note))
        assert cut == line + note and note.endswith(
            "allowed examples=4, for about 50 passes, where the whole costs 200 passes."
        )
        one = Estimate("one", 1.0, 0.0, 2.0)
        numbers = evidence_line(dataclasses.replace(evidence, estimates=(one, one)))
        assert numbers.count("One: 1 (0 to 2).") == 1, "it is long enough"
        table = conclusions_of(WeatherResult(verdict, evidence=evidence))  # pyright: ignore[reportArgumentType]
        assert table is not None and len(table.rows) >= len(set(days[:count]))


def test_conclusions_that_begin_alike_are_said_in_full():
    class Sky(Verdict):
        blue = "No rain: the sky is blue."
        grey = "No rain: the sky is grey."
        black = "Rain; take a coat."

    assert Sky.blue.brief == "No rain: the sky is blue" and Sky.black.brief == "Rain"


def test_where_all_examples_agree_the_verdict_is_said_once():
    result = result_of(*[Weather.wet] * 12)
    assert verdict_line(result) == "It is wet." and conclusions_of(result) is None
    assert evidence_line(result.evidence) == "The same in each of 12 examples (76 to 100 % of all)."


def test_a_number_that_is_unknown_is_no_evidence():
    result = result_of(Weather.wet, Weather.wet)
    nan = Estimate("rain", math.nan, math.nan, math.nan)
    steps = Estimate("steps", 3349.4, 3330.0, 3420.0)
    object.__setattr__(result.evidence, "estimates", (nan, steps))
    assert "nan" not in evidence_line(result.evidence)
    assert "Steps: 3,349 (3,330 to 3,420)." in evidence_line(result.evidence)
    table = numbers_of(result)
    assert table is not None and [row[0] for row in table.rows] == ["steps"]
