"""What people are told: alerts follow the ledger, so that telling never holds up doing.

Takes entries; gives alerts, and a fact for each that went out or did not; never raises because a channel failed. The
same key is told once a day at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from everfit.decide.decision import AskHuman, Decision, FixData, Reason, Recall, Retrain, RollBack, Wait
from everfit.errors import Conflict
from everfit.facts import ApprovalAsked, Decided, Fact, GuardLooked, ReleaseEnded, RenewEnded, Told, WentLive
from everfit.flows.durable import Desk, Follower
from everfit.ids import content_key
from everfit.ledger import Entry
from everfit.ports import Alert, Notes, Severity, Teller, Write

QUIET = timedelta(days=1)  # the same thing is not said again before

OUTCOMES: Mapping[str, tuple[Severity, str]] = {
    "kept_back": (Severity.INFO, "the candidate was kept back"),
    "blocked": (Severity.WARNING, "the data are not fit to train on"),
    "failed": (Severity.ERROR, "the training run failed"),
}


def alert_of(entry: Entry) -> Alert | None:
    """What a person should hear of an entry, if anything.

    >>> from datetime import datetime, UTC
    >>> from everfit.ledger import sealed
    >>> ended = RenewEnded("failed", "the trainer raised")
    >>> alert_of(sealed(None, ("renew-1", 9), ended, datetime(2013, 2, 1, tzinfo=UTC), ("m", "w"))).title
    'm: the training run failed'
    """
    fact: Fact = entry.fact
    match fact:
        case Decided(decision=decision):
            return _of_decision(entry.model, decision)
        case RenewEnded(outcome=outcome, said=said) if outcome in OUTCOMES:
            severity, title = OUTCOMES[outcome]
            return Alert(f"{entry.run}:{outcome}", severity, f"{entry.model}: {title}", said, {"run": entry.run})
        case ApprovalAsked(question=question, candidate=candidate):
            text = f"candidate {candidate} is proven and waits: everfit approve {question} | everfit reject {question}"
            return Alert(question, Severity.WARNING, f"{entry.model}: a release waits for your word", text)
        case WentLive(version=version, back=back):
            title = f"rolled back to version {version}" if back else f"version {version} is live"
            severity = Severity.WARNING if back else Severity.INFO
            return Alert(
                f"{entry.run}:live",
                severity,
                f"{entry.model}: {title}",
                fact.why,
                {"candidate": fact.candidate},
            )
        case GuardLooked(verdict="ask", index=index, said=said):
            title = f"{entry.model}: a release waits for your word"
            return Alert(
                f"{entry.run}:{index}:ask", Severity.WARNING, title, f"{said}\neverfit promote | everfit abort"
            )
        case ReleaseEnded(outcome="rolled_back", said=said):
            title = f"{entry.model}: the release was taken back"
            return Alert(f"{entry.run}:rolled_back", Severity.ERROR, title, said)
        case ReleaseEnded(outcome="failed", said=said):
            return Alert(f"{entry.run}:failed", Severity.ERROR, f"{entry.model}: the release failed", said)
        case _:
            return None


def _of_decision(model: str, decision: Decision) -> Alert | None:
    said = "\n".join(dict.fromkeys(reason.said for reason in decision.because))
    match decision:
        case Retrain():
            return Alert(content_key(decision), Severity.INFO, f"{model}: retraining", said)
        case Recall():
            return Alert(content_key(decision), Severity.INFO, f"{model}: a kept model is recalled", said)
        case AskHuman(question=question):
            text = f"{said}\neverfit approve {question} | everfit reject {question}"
            return Alert(question, Severity.WARNING, f"{model}: may I retrain?", text)
        case FixData(columns=columns):
            named = ", ".join(columns)
            return Alert(f"fix_data:{named}", Severity.ERROR, f"{model}: the data are broken ({named})", said)
        case RollBack():
            return Alert(content_key(decision), Severity.ERROR, f"{model}: a bad release is taken back", said)
        case Wait(because=(Reason(trigger="recalibrate"), *_)):
            return Alert("recalibrate", Severity.WARNING, f"{model}: its scores should be recalibrated", said)
        case _:
            return None


@dataclass(slots=True)
class Tell:
    """Follows one model's ledger and tells what is new in it."""

    desk: Desk
    follower: Follower
    notes: Notes
    teller: Teller

    def tick(self) -> bool:
        """Tell what came since the last look; whether anything did."""
        model = self.follower.model
        mark = f"told:{model}"
        after = int(self.notes.marked(mark) or 0)
        news = self.desk.ledger.read(model, after=after)
        for entry in news:
            alert = alert_of(entry)
            if alert is not None:
                self._tell(entry, alert)
            self.notes.mark(mark, str(entry.number))
        return bool(news)

    def _tell(self, entry: Entry, alert: Alert) -> None:
        last = self.follower.standing().told.get(alert.key)
        run = f"tell-{entry.number}"
        if last is not None and entry.at < last + QUIET:
            return
        outcome = self.teller.tell(alert)
        if not outcome:  # no channel at all: there is nothing to record
            return
        fact = Told(alert.key, alert.severity, alert.title, outcome)
        try:
            self.desk.ledger.append(Write(entry.model, run, 1, fact, entry.at, self.desk.worker.name, ends=True))
        except Conflict:
            return  # another teller was first; the message may have gone out twice, never not at all
