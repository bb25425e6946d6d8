"""What the API answers, as JSON-ready objects. The keys and shapes are those of openapi.json and the webhooks' page.

Where the documents contradict each other: in a result's details `runs` is an object by run id and `success_rate` a
percentage, in a list of results `success_rate` is a share of 1. Keys that mean nothing for a SIP run are left out.
"""

from datetime import datetime
from typing import Any

from sip_agent.platforms.cekura.simulator.runs import Result, Run, RunStatus
from sip_agent.platforms.cekura.simulator.world import Agent, Scenario, Setup, TestProfile

TESTING_CHANNEL = 1
"""The recordings' right channel is what the testing agent says."""

_COMPLETED_KEYS = (
    *("id", "name", "agent", "status", "met_expected_outcome_count", "total_expected_outcome_count"),
    *("success_rate", "run_as_text", "is_cronjob", "created_at"),
)

_SPEAKERS = {"agent": "Testing Agent", "caller": "Main Agent"}
"""The record is that of the calling side: its agent is the tester."""


class Documents:
    """Writes the documents of one stand-in; `base_url` is where its recordings are."""

    def __init__(self, setup: Setup, base_url: str) -> None:
        self._setup = setup
        self._base_url = base_url

    def started(self, result: Result) -> dict[str, Any]:
        """Return the answer to the starting request, with the statuses of the page's example (S-SIP)."""
        return {
            "id": result.id,
            "name": result.name,
            "agent": result.agent.id,
            "status": "in_progress",
            "success_rate": 0.0,
            "run_as_text": False,
            "is_cronjob": False,
            "runs": [
                {
                    "id": run.id,
                    "status": "running",
                    "scenario": run.scenario.id,
                    "scenario_name": run.scenario.name,
                    "test_profile_data": profile_data(run.test_profile),
                    "number": "",
                    "inbound_number": None,
                    "outbound_dial_window_opens_at": None,
                    "outbound_dial_window_seconds": None,
                    "outbound_dial_window_closes_at": None,
                }
                for run in result.runs
            ],
            "created_at": _time(result.created_at),
            "updated_at": _time(result.updated_at),
        }

    def run(self, run: Run) -> dict[str, Any]:
        """Return a run (openapi.json, Run)."""
        record, posted = run.record, run.provider_call or {}
        return {
            "id": run.id,
            "status": run.status.value,
            "success": run.success,
            "evaluation_status": None if not run.status.over else "success" if run.success else "failure",
            "error_message": run.error_message,
            "scenario": run.scenario.id,
            "scenario_name": run.scenario.name,
            "scenario_type": "instruction",
            "scenario_instructions": run.scenario.instructions,
            "personality": None if run.personality is None else run.personality.id,
            "personality_name": "" if run.personality is None else run.personality.name,
            "agent": run.result.agent.id,
            "agent_name": run.result.agent.name,
            "result_id": run.result.id,
            "result_name": run.result.name,
            "test_profile_data": profile_data(run.test_profile),
            "expected_outcome_prompt": run.scenario.expected_outcome_prompt,
            "expected_outcome": {} if run.evaluation is None else run.evaluation.expected_outcome,
            "evaluation": {"metrics": [] if run.evaluation is None else list(run.evaluation.metrics)},
            "transcript": "\n".join(f"{item['role']}: {item['content']}" for item in _transcript(run)),
            "transcript_object": _transcript(run),
            "duration": _minutes(record.talk_ms) if record is not None else "00:00",
            "voice_recording_url": self.recording_url(run),
            "testing_channel_index": None if run.recording is None else TESTING_CHANNEL,
            "metadata": {
                "ended_reason": None if run.end_reason is None else run.end_reason.value,
                "ringing_duration": _ringing_s(run),
            },
            "provider_call_id": posted.get("id", ""),
            "trace_id": posted.get("trace_id", ""),
            "provider_call_details": run.provider_call,
            "timestamp": _time(run.created_at),
            "executed_at": _time(run.executed_at),
            "is_reviewed": False,
            "feedback": "",
            "critical_categories": [],
            "run_as_text": False,
            "outbound_number": "",
            "inbound_number": "",
        }

    def result(self, result: Result) -> dict[str, Any]:
        """Return a result with its runs (openapi.json, ResultDetailV2)."""
        return {
            **self._counts(result),
            "success_rate": 100.0 * _success_rate(result),
            "runs": {str(run.id): self.run(run) for run in result.runs},
        }

    def listed(self, result: Result) -> dict[str, Any]:
        """Return a result as it stands in a list, without its runs."""
        return {**self._counts(result), "success_rate": _success_rate(result)}

    def completed(self, result: Result) -> dict[str, Any]:
        """Return the webhook `result.completed` (docs.cekura.ai, Webhook Format)."""
        runs = {str(run.id): self._completed_run(run) for run in result.runs}
        document = self.result(result)
        data = {key: document[key] for key in _COMPLETED_KEYS}
        return {"event_type": "result.completed", "data": {**data, "runs": runs}}

    def pre_trigger(self, result: Result) -> dict[str, Any]:
        """Return the webhook `result.pre_trigger` (docs.cekura.ai, Webhook Format). A SIP run has no phone number."""
        return {
            "event_type": "result.pre_trigger",
            "data": {
                "result_id": result.id,
                "label": result.name,
                "agent_id": str(result.agent.id),
                "timestamp": _time(result.created_at),
                "runs": {
                    str(run.id): {
                        "id": run.id,
                        "scenario": {"id": run.scenario.id, "name": run.scenario.name},
                        "test_profile": profile_data(run.test_profile),
                        "personality": None if run.personality is None else run.personality.model_dump(),
                        "phone_number": None,
                    }
                    for run in result.runs
                },
            },
        }

    def recording_url(self, run: Run) -> str:
        """Return where the recording of a run is; whoever has the address may hear it."""
        return "" if run.recording is None else f"{self._base_url}/recordings/{run.recording_token}.wav"

    def scenario(self, scenario: Scenario) -> dict[str, Any]:
        """Return a scenario (openapi.json, ScenarioList)."""
        personality = self._setup.personalities.get(scenario.personality or 0)
        agent = self._setup.agents[scenario.agent]
        return {
            "id": scenario.id,
            "name": scenario.name,
            "agent": agent.id,
            "agent_name": agent.name,
            "personality": scenario.personality,
            "personality_name": "" if personality is None else personality.name,
            "expected_outcome_prompt": scenario.expected_outcome_prompt,
            "instructions": scenario.instructions,
            "scenario_type": "instruction",
            "tags": scenario.tags,
            "folder_path": scenario.folder_path,
            "test_profile": scenario.test_profile,
            "test_profile_data": profile_data(self._setup.test_profiles.get(scenario.test_profile or 0)),
        }

    def test_profile(self, profile: TestProfile) -> dict[str, Any]:
        """Return a test profile (openapi.json, AIAgentTestProfileList)."""
        agent = self._setup.agents.get(profile.agent or 0)
        owner = {"agent": profile.agent, "agent_name": "" if agent is None else agent.name}
        return {**profile.model_dump(), **owner, "project": None}

    def agent(self, agent: Agent, version: int) -> dict[str, Any]:
        """Return an agent (openapi.json, AIAgent of v1, and the one of v2 with `telephony`); never a password."""
        auth = None if agent.sip_auth is None else {"username": agent.sip_auth.username}
        if version == 1:
            endpoint = {"sip_endpoint": agent.sip_endpoint, "sip_auth": auth}
            return {"id": agent.id, "agent_name": agent.name, "inbound": True, "contact_number": "", **endpoint}
        telephony = {"inbound": True, "sip_uri": agent.sip_endpoint, "sip_auth": auth}
        return {"id": agent.id, "name": agent.name, "telephony": telephony, "provider": {"type": "custom"}}

    def _counts(self, result: Result) -> dict[str, Any]:
        over = [run for run in result.runs if run.status.over]
        successful = [run for run in over if run.success]
        evaluated = [run for run in result.runs if run.evaluation is not None]
        not_connected = [run for run in over if run.record is None or run.record.answered_at is None]
        ringing = [seconds for seconds in map(_ringing_s, result.runs) if seconds is not None]
        return {
            "id": result.id,
            "name": result.name,
            "agent": result.agent.id,
            "agent_name": result.agent.name,
            "status": result.status,
            "run_as_text": False,
            "is_cronjob": False,
            "run_type": "sip",
            "met_expected_outcome_count": len(successful),
            "total_expected_outcome_count": len(evaluated),
            "total_runs_count": len(result.runs),
            "completed_runs_count": len(result.having(RunStatus.COMPLETED)),
            "success_runs_count": len(successful),
            "failed_runs_count": len(over) - len(successful),
            "connected_runs": [run.id for run in over if run not in not_connected],
            "not_connected_runs": [run.id for run in not_connected],
            "overall_evaluation": {
                "extra_metrics": {"Average Ringing Duration": round(sum(ringing) / len(ringing), 3)} if ringing else {}
            },
            "failed_reasons": list(dict.fromkeys(reason for run in over for reason in _failures(run))),
            "total_duration": _minutes(sum(run.record.talk_ms or 0 for run in over if run.record is not None)),
            "created_at": _time(result.created_at),
            "updated_at": _time(result.updated_at),
        }

    def _completed_run(self, run: Run) -> dict[str, Any]:
        return {
            "id": run.id,
            "scenario": {
                "id": run.scenario.id,
                "name": run.scenario.name,
                "personality_name": "" if run.personality is None else run.personality.name,
                "expected_outcome_prompt": run.scenario.expected_outcome_prompt,
            },
            "expected_outcome": {} if run.evaluation is None else run.evaluation.expected_outcome,
            "success": run.success,
            "evaluation": {"metrics": [] if run.evaluation is None else list(run.evaluation.metrics)},
            "transcript_object": _transcript(run),
            "voice_recording": self.recording_url(run),
            "timestamp": _time(run.created_at),
            "executed_at": _time(run.executed_at),
            "error_message": run.error_message,
        }


def profile_data(profile: TestProfile | None) -> dict[str, Any] | None:
    """Return a profile as a run has it (openapi.json, TestProfileData)."""
    return None if profile is None else profile.model_dump(include={"id", "name", "information"})


def _transcript(run: Run) -> list[dict[str, Any]]:
    """Return what the testing agent said and understood."""
    entries = [] if run.record is None else [entry for entry in run.record.transcript if "text" in entry]
    return [
        {
            "role": _SPEAKERS[entry["speaker"]],
            "content": entry["text"],
            "time": _minutes(entry["at_ms"]),
            "timestamp": entry["at_ms"] / 1000,
            "start_time": entry["at_ms"] / 1000,
        }
        for entry in entries
    ]


def _failures(run: Run) -> list[str]:
    if run.error_message:
        return [run.error_message]
    return [check.found for check in run.evaluation.checks if not check.met] if run.evaluation else []


def _success_rate(result: Result) -> float:
    return sum(run.success for run in result.runs) / len(result.runs)


def _ringing_s(run: Run) -> float | None:
    """Return the seconds from the INVITE to the answer (`metadata.ringing_duration`)."""
    delay_ms = None if run.record is None else run.record.answer_delay_ms
    return None if delay_ms is None else delay_ms / 1000


def _minutes(milliseconds: int | None) -> str:
    minutes, seconds = divmod(round((milliseconds or 0) / 1000), 60)
    return f"{minutes:02}:{seconds:02}"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
