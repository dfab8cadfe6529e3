"""
Roll a bad Deployment back because of a FireHydrant incident, and tell the incident.

The one idea: observe, decide, record, act.  Observing and acting touch the world and are thin;
deciding and recording are pure functions of a snapshot and a clock, and hold all the thinking.
Who knows `domain/decision.py` and the table in `domain/phase.py` knows the operator.

The map.  ● marks a pure module: no input or output, no clock, no environment, no logging.

    __main__.py                the command: run controller or bridge; lend the turn to previews
    settings.py                every setting, its bounds and default; read once, frozen
    wiring.py                  the composition root: Settings -> clients -> the two processes
    extras.py                  optional halves of libraries that the two processes do not load
    errors.py                ● the error tree: the branch says whether to retry
    ports.py                 ● Protocols Store, Cluster, Leases, Timeline, Clock: what we need
                               from outside

    crd/part.py              ● what every piece of our resources has in common
    crd/v1alpha1.py          ● IncidentRollback and RollbackEnvironment as frozen models
    crd/schema.py              models -> schemas -> crds/; `make crds` writes them

    domain/incident.py       ● what an incident is to us
    domain/names.py          ● free text as DNS labels; the identity of a request
    domain/environment.py    ● find_place, find_workload: FireHydrant's names become a workload
    domain/workload.py       ● a Deployment, its revisions and pods: one snapshot
    domain/ownership.py      ● who keeps a workload as it is written elsewhere, and will revert
    domain/lease.py          ● who may lead, by a Lease, and for how long that is believed
    domain/raw.py            ● reading raw JSON, where null, empty and absent are the same
    domain/template.py       ● when two pod templates are functionally equal
    domain/history.py        ● the order in which revisions were live; which were rolled back from
    domain/revision.py       ● choose_revision: where to go back to, and why not the others
    domain/changes.py        ● the difference of two pod templates, in lines without secrets
    domain/plan.py           ● what would change and what not, and the digest that stands for it
    domain/doubt.py          ● when a rollback is unlikely to help, and a person is asked first
    domain/aim.py            ● revision and plan together, and whether they may be carried out
    domain/observation.py    ● what a decision rests on; the trace of our own write
    domain/surroundings.py   ● what stands around a workload: references, trials, Events, nodes
    domain/references.py     ● the other objects that a pod template needs
    domain/look.py           ● what a move rests on and was not looked at yet
    domain/moves.py          ● decisions as values: Wait, Refuse, Claim, Restore, Succeed, Fail, ...
    domain/preflight.py      ● the rules before the patch, one small function each
    domain/caps.py           ● how many rollbacks at once and within an hour; whose turn it is
    domain/rollout.py        ● assess_rollout: how far a rollout has come
    domain/messages.py       ● what the cluster says, made safe to repeat
    domain/cause.py          ● where trouble comes from: the template, or what stands around it
    domain/diagnosis.py      ● why pods are not ready, in a sentence that can be pasted
    domain/verdict.py        ● the rules after the patch, and after the end
    domain/decision.py       ● decide: what to do next, and in which order the rules speak
    domain/phase.py          ● the table of legal moves between phases
    domain/conditions.py     ● upsert, drop and read a condition
    domain/words.py          ● spans, instants, and texts of people made safe to repeat
    domain/trace.py          ● the id that log lines, spans and change event of a request share
    domain/timeline.py       ● the words on the incident, and the outbox entries that carry them
    domain/record.py         ● a decision becomes the next status

    bridge/app.py              HTTP: the one route, body limit, status codes
    bridge/server.py           the HTTP server: who may stay connected, what is no HTTP at all
    bridge/secrets.py          the HMAC secrets of a mounted folder
    bridge/signature.py      ● is_signed, in constant time
    bridge/payload.py        ● webhook bytes -> Request, Ignored or Malformed
    bridge/requests.py       ● a request -> the rollbacks to create, their names, the answer
    bridge/floods.py           what many unsigned requests leave in the log
    bridge/presence.py         whether a controller has been seen lately, as an aside

    controller/controller.py   the watch, the safety list, the tasks, and whether it is ready
    controller/election.py     which of several controllers leads: hold the Lease, or seek to
    controller/watch.py        the kopf edge: one event handler, in a thread of its own
    controller/runner.py       one task for each unsettled rollback: wake, take a turn, wait
    controller/reconcile.py    one turn: observe, decide, record, act
    controller/outbox.py       deliver stored updates to the incident, beside the turns
    controller/limiter.py      how often FireHydrant is called, and who goes first
    controller/environments.py whether each RollbackEnvironment would work tonight
    controller/report.py       one log line and a few numbers for each turn

    cli/commands.py            the commands for people: arguments, errors, exit codes
    cli/options.py             options and exit codes that they have in common
    cli/ask.py                 rollback, approve: make a resource
    cli/follow.py              look at a resource until its end
    cli/look.py                get, describe, wait, history, preview: read
    cli/check.py               would it work tonight: environments and their services
    cli/rehearsal.py           a turn of the controller's that writes nothing
    cli/session.py             the cluster by the caller's kubeconfig
    cli/show.py              ● rollbacks, previews and histories as pages
    cli/page.py                an answer as a page, JSON, YAML or names

    clients/connection.py      one ApiClient a cluster, and one small `call` on it
    clients/clock.py           the API server's time
    clients/store.py           our own resources behind ports.Store
    clients/lease.py           the controllers' Lease behind ports.Leases
    clients/cluster.py         the workloads' API behind ports.Cluster
    clients/glance.py          reading many small things at once, for a moment, else unknown
    clients/referents.py       what is behind a template's references: metadata, never content
    clients/symptoms.py        what shows why pods are not well: Warning Events, and nodes
    clients/translate.py     ● API objects -> Workload; a wanted template -> JSON patch
    clients/firehydrant.py     the FireHydrant API behind ports.Timeline

    telemetry/logs.py          one JSON object a line, or text for people
    telemetry/metrics.py       Prometheus names and labels
    telemetry/traces.py        whose request a log line belongs to; spans, where wanted
    telemetry/ops.py           /livez, /readyz and /metrics of both processes

Imports point downwards only: controller | bridge | cli -> clients | telemetry | settings -> ports
-> domain -> crd | errors.  `wiring` and `__main__` see everything, and nothing sees them.

Webhook -> resource.  The bridge records a wish and answers; it never touches a workload.

1. `bridge/app.py: Bridge.receive`: a bounded read of the raw body
2. `bridge/signature.py: is_signed`: else 401, before any parsing
3. `bridge/payload.py: read_payload`: Request, Ignored (200) or Malformed (400, 422)
4. `bridge/requests.py: wishes_for`, `rollback_name`: same incident and pair, same name
5. `clients/store.py: KubernetesStore.create`: "already exists" is an answer, not an error
6. `bridge/requests.py: message_for`: 202 and the names, or 200 and how it stands

Resource -> patch -> incident.  Every turn starts from what the cluster says now.

1. `controller/watch.py` -> `controller.py: Controller.hear` -> `runner.py: Runner.offer`
2. `controller/reconcile.py: Reconciler.turn` -> `clients/cluster.py: read_workload`
3. `domain/decision.py: decide` -> `revision.py: choose_revision` or `verdict.py: judge_rollout`;
   `look.py: what_to_look_at` -> `reconcile.py: Reconciler._look`, and once more
4. `domain/record.py: record` -> `phase.py: advance`, `conditions.py: upsert`, `timeline.py: add`
5. `clients/store.py: KubernetesStore.save`: one status write, with resourceVersion
6. `clients/cluster.py: restore_template` -> `translate.py: template_patch`: one guarded patch
7. `controller/outbox.py: Outbox.submit`: only entries that are stored are told

A preview is a rehearsal: `__main__.py: take_turn` takes such a turn for a dry run that was never
made, on a store that only reads.  There is no second logic that could say something else.

Two rules make this safe to kill at any line.  Intent before effect: from and to are stored before
the workload is patched.  Outbox: what the incident is told is stored in the same write as the
phase it tells of.  The rest of why it is safe: docs/design.md, section 3.
"""

__version__ = "0.1.0"
