"""English. Each text is a template over the values that the core gives with its code."""

from __future__ import annotations

# Mails, by kind and audience. Kinds that begin with "fault " are summaries and digests of faults.
SUBJECTS: dict[tuple[str, str], str] = {
    ("failover", "customer"): "{site_name}: your phones now run over the cellular backup",
    ("failover", "support"): "[{site}] FAILOVER: voice on {path}, primary down ({cause})",
    ("restored", "customer"): "{site_name}: your phones are back on your internet line",
    ("restored", "support"): "[{site}] RESTORED: voice returns to the primary after {duration} on {path}",
    ("summary", "customer"): "{site_name}: your phones ran over the cellular backup for {duration}",
    ("summary", "support"): "[{site}] FAILOVER AND RESTORED: {duration} on {path} ({cause})",
    ("digest", "customer"): "{site_name}: your internet line is unsteady ({count} changes)",
    ("digest", "support"): "[{site}] FLAPPING: {count} notices in one",
    ("fault", "customer"): "{site_name}: {what}",
    ("fault", "support"): "[{site}] FAULT {code}: {what}",
    ("cleared", "customer"): "{site_name}: over since {cleared}: {what}",
    ("cleared", "support"): "[{site}] CLEARED {code} after {lasted}",
    ("drifted", "support"): "[{site}] PUT RIGHT: {changes} changes of the agent's rows in the router",
    ("fault summary", "customer"): "{site_name}: it is over: {what}",
    ("fault summary", "support"): "[{site}] FAULT AND CLEARED {code}: lasted {lasted}",
    ("fault digest", "customer"): "{site_name}: {count} faults came and went",
    ("fault digest", "support"): "[{site}] FAULTS: {count} notices in one",
}

BODIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("failover", "customer"): (
        "Your internet line stopped working at {began}.",
        "At {moved} your phones were moved to the cellular backup. Only phones use it; computers wait for the line.",
        "A call that was in progress may have gone silent: please hang up and dial again. Outgoing calls work at once. "
        "Incoming calls reach each phone again as soon as it has renewed its registration, usually within one to three "
        "minutes.",
        "You need not do anything. We will write again when the line is back.",
    ),
    ("failover", "support"): (
        "Site {site} ({site_name}) failed over.",
        "Primary judged dead: {cause_text}. Outage began: {began}. Voice moved to {path}: {moved}.",
        "Voice devices known: {phones}. In a call at that moment: {calls}.",
        "Phones now: outgoing calls work; each phone can be called again once it has registered by {path}, usually "
        "within one to three minutes.",
        "Incident {incident}.",
    ),
    ("restored", "customer"): (
        "Your internet line works again. Since {returned} your phones are going back to it.",
        "{calls_text}You need not do anything.",
    ),
    ("restored", "support"): (
        "Site {site} ({site_name}) returns to its primary line.",
        "On {path} since {moved}, returning since {returned}: {duration}.",
        "{calls_text}{died_text}",
        "Phones now: each goes back just before its own next registration; a phone in a call when the call has ended.",
        "Incident {incident}.",
    ),
    ("summary", "customer"): (
        "Your internet line stopped working at {began} and works again. From {moved} until {returned} your phones ran "
        "over the cellular backup.",
        "A call that was in progress at {began} may have gone silent. {calls_text}You need not do anything.",
    ),
    ("summary", "support"): (
        "Site {site} ({site_name}) failed over and returned before this could be sent.",
        "Primary judged dead: {cause_text}. Outage began: {began}. On {path} from {moved} until {returned}: "
        "{duration}.",
        "Voice devices known: {phones}. {calls_text}{died_text}",
        "Phones now: back on the primary, or going there before their next registration.",
        "Incident {incident}.",
    ),
    ("digest", "customer"): (
        "Your internet line is unsteady. Each time it fails your phones are moved to the cellular backup, and back "
        "when it works again. So that you are not sent a mail each time, here is what happened since the last one:",
    ),
    ("digest", "support"): (
        "Site {site} ({site_name}) is flapping: more notices than may be sent singly (6 an hour, 20 a day). All that "
        "waited, oldest first:",
    ),
    ("fault", "customer"): (
        "{what} It has been so since {since}.",
        "What it means for your phones: {meaning}",
        "What to do: {todo}",
        "We will write again when it is over.",
    ),
    ("fault", "support"): (
        "Site {site} ({site_name}): fault {code} since {since}.",
        "What happened: {what}",
        "What it means for the phones: {meaning}",
        "What to do: {todo}",
        "Who can: {who}.",
    ),
    ("cleared", "customer"): ("It is over since {cleared}, after {lasted}: {what}", "You need not do anything."),
    ("cleared", "support"): (
        "Site {site} ({site_name}): fault {code} is over. It held from {since} until {cleared}: {lasted}.",
        "It was: {what}",
    ),
    ("drifted", "support"): (
        "Site {site} ({site_name}): somebody, or something, had changed in the router what the agent needs there. It "
        "was found and put right at {since}.",
        "What it was: {rows}",
        "What it means for the phones: nothing any more. Until then an outage might not have been survived.",
        "What to do: if it was meant, run edgeagent provision --remove first: what is changed twice within ten minutes "
        "is left as it is and told as a fault.",
        "Who can: whoever works on the router.",
    ),
    ("fault summary", "customer"): (
        "{what} It was so from {since} until {cleared} ({lasted}) and is over.",
        "It meant for your phones then: {meaning}",
        "You need not do anything.",
    ),
    ("fault summary", "support"): (
        "Site {site} ({site_name}): fault {code} held from {since} until {cleared}: {lasted}. It is over.",
        "What happened: {what}",
        "What it meant for the phones: {meaning}",
        "What to do if it comes back: {todo}",
        "Who can: {who}.",
    ),
    ("fault digest", "customer"): ("Since the last mail these faults came, or went again:",),
    ("fault digest", "support"): (
        "Site {site} ({site_name}): more notices of faults than may be sent singly. All that waited, oldest first:",
    ),
}

# A notice within a digest.
LINES: dict[str, str] = {
    "failover": "{moved}: onto {path} (outage since {began}; {cause_text})",
    "restored": "{returned}: back to the primary line after {duration} on {path}",
    "fault": "{since}: {what}",
    "cleared": "{cleared}: over after {lasted}: {what}",
    "drifted": "{since}: put right in the router: {rows}",
}

CAUSES: dict[str, str] = {
    "probes": "no target answered any more, while the router itself did",
    "link": "the router lost the link of its primary port",
    "": "it was so when the agent started",
}

CALLS: dict[str, str] = {
    "none": "",
    "one": "One call is still in progress; it stays on the backup until it ends. ",
    "many": "{calls} calls are still in progress; each stays on the backup until it ends. ",
}
BACKUP_DIED = "The backup itself stopped working, so everything was moved at once. "
CLOCK_UNSURE = "(times are of an unset clock and may be wrong)"
TIME_UNKNOWN = "an unknown time"

# The service is handed its passwords by systemd, once, when it starts.
RESTART = "sudo systemctl restart edgeagent (voice stays where it is)."

# Every fault: what happened, what it means for the phones, what to do, who can.
FAULT_UNKNOWN = ("A fault that this version does not know.", "Unknown.", "Ask support.", "support")
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "no_path": (
        "Neither the primary line nor any backup works.",
        "The phones cannot call or be called.",
        "Check power and cables of modem and router; then call the internet provider.",
        "customer, support",
    ),
    "backup_down": (
        "The backup does not answer although the primary line works.",
        "The phones work now, but an outage of the line would silence them.",
        "Check the cellular modem: power, cable, antenna, SIM.",
        "support",
    ),
    "router_unreachable": (
        "The router's API does not answer.",
        "The phones work as long as the line does; the agent cannot move them.",
        "Check that the router runs and that its api-ssl service is on and lets the agent's address in.",
        "support",
    ),
    "router_login_refused": (
        "The router refuses the agent's login.",
        "The phones work as long as the line does; the agent cannot move them.",
        "Compare user and password of site.toml with the router's /user, and the user's group (it needs the api "
        "policy) and allowed address. After a change of site.toml or of the password file: " + RESTART,
        "support",
    ),
    "router_unusable": (
        "A file that the agent needs for the router cannot be read: its password or its certificate.",
        "The phones work as long as the line does; the agent cannot move them.",
        "Put router.password_file and router.certificate of site.toml in place; the log says which is missing and why. "
        "After a change of the password file: " + RESTART,
        "support",
    ),
    "router_untrusted": (
        "Whatever answers at the router's address does not show the router's certificate. Nothing was sent to it.",
        "The phones work as long as the line does; the agent cannot move them.",
        "If the router or its certificate was replaced, install its new certificate where site.toml says; if not, "
        "somebody may stand between agent and router.",
        "support",
    ),
    "router_policy_missing": (
        "The router does not allow the agent's user what it needs.",
        "The phones work as long as the line does; the agent cannot move them.",
        "Give the user's group the policies api, read, write and test.",
        "support",
    ),
    "router_refused": (
        "The router refuses a command that the agent needs.",
        "The phones work as long as the line does; the agent may not be able to move them.",
        "Run edgeagent provision --plan; it shows what differs from what the agent needs.",
        "support",
    ),
    "router_version_unlisted": (
        "The router runs a RouterOS version that the agent does not know. It only watches and changes nothing.",
        "The phones work as long as the line does; the agent will not move them.",
        "Install RouterOS 6.49 or a 7.x from 7.12 on, or a newer edgeagent.",
        "support",
    ),
    "router_version_untested": (
        "The router runs a newer RouterOS 7 than this edgeagent was tested with.",
        "None is expected: the agent works as usual.",
        "Run a failover test, and install a newer edgeagent when there is one.",
        "support",
    ),
    "router_unprovisioned": (
        "The router does not hold the rules that failover needs: they were never put there, or were taken away.",
        "The phones work as long as the line does; an outage would silence them.",
        "Run edgeagent provision --plan, then --apply.",
        "support",
    ),
    "router_rules_not_applied": (
        "Other rules are wanted in the router than edgeagent provision --apply has put there: site.toml, the program "
        "or what the router can do has changed since. What is wanted otherwise is left as it is.",
        "The other rules hold as they were applied. What has changed has no effect yet: phones, servers and lines that "
        "it is about might not survive an outage.",
        "edgeagent status tells what it is about. Run edgeagent provision --plan, then --apply. Where that was done "
        "with the new site.toml already, restart the agent.",
        "support",
    ),
    "router_held_by_other": (
        "Another agent leads at this router. This one only watches and changes nothing.",
        "None: the other agent moves them.",
        "Stop one of the two, or give the router to one site only. Once the other has gone this one goes on by itself.",
        "support",
    ),
    "router_rows_differ": (
        "Rows or settings in the router are not as they were provisioned, and could not be put right yet.",
        "The phones work as long as the line does; an outage might not be survived, or other traffic might use LTE.",
        "edgeagent status tells which; edgeagent provision --apply puts them right, or says what is in the way.",
        "support",
    ),
    "router_rows_fought_over": (
        "The same rows or settings in the router were changed twice within ten minutes. They are left as they are now.",
        "The phones work as long as the line does; an outage might not be survived, or other traffic might use LTE.",
        "edgeagent status tells which. Find out who changes them; edgeagent provision --apply puts them right again.",
        "support",
    ),
    "control_silent": (
        "The router does not answer on the LAN.",
        "Unknown: the agent cannot tell a dead line from its own cut cable.",
        "Check the cable between agent and router.",
        "support",
    ),
    "alias_missing": (
        "The agent's network card does not have the addresses that its probes are sent from.",
        "They work as long as the line does; an outage would not be noticed.",
        "Start edgeagent-addresses.service (systemctl status edgeagent-addresses says why it failed), or set "
        "path.*.source of site.toml to addresses that the card has.",
        "support",
    ),
    "ping_forbidden": (
        "The system does not let the agent send pings.",
        "They work as long as the line does; an outage would not be noticed.",
        "Let net.ipv4.ping_group_range include the agent's group (edgeagent-addresses.service does it).",
        "support",
    ),
    "probes_not_sent": (
        "The agent cannot send its probes by the primary line.",
        "They work as long as the line does; an outage would not be noticed.",
        "Check the agent's network card and its route to the router.",
        "support",
    ),
    "call_over_drain_limit": (
        "A call has kept a phone on the backup beyond the drain limit.",
        "The call goes on and is not cut; it uses the data plan.",
        "Nothing, or ask the customer whether the call is a forgotten one.",
        "support",
    ),
    "canaries_silent": (
        "The hosts by which the router judges the primary line do not answer, though the line works.",
        "None while the agent runs. If it stops, the router itself will send the phones onto LTE.",
        "Put two other hosts that answer pings into path.primary.targets, then run edgeagent provision --apply.",
        "support",
    ),
    "sip_silent": (
        "The primary line answers pings again, but the provider's server does not answer SIP over it.",
        "The phones stay on the backup, where they work.",
        "Check for a SIP filter or SIP ALG in the internet provider's modem.",
        "support",
    ),
    "registrar_outside_prefixes": (
        "The registrar's name stands for addresses that are not in the provider's prefixes of site.toml.",
        "Phones that go there are not moved when the line fails. The agent goes on with the address from before.",
        "Ask the provider for the prefixes of its servers, put them into provider.prefixes of site.toml, then run "
        "edgeagent provision --apply and restart edgeagent.",
        "support",
    ),
    "registrar_unresolved": (
        "No resolver has told the registrar's address for an hour.",
        "None as long as the provider's server stays where it was: the agent goes on with the address from before.",
        "Check voice.resolvers and provider.registrar of site.toml; the log says what each resolver answered.",
        "support",
    ),
    "mail_refused": (
        "The mail server refuses the agent's mails, or some of their recipients, for good.",
        "None. Mails about them do not arrive; they are kept and tried again.",
        "Check sender and recipients of site.toml with the mail provider. After a change: " + RESTART,
        "support",
    ),
    "mail_login_refused": (
        "The mail server refuses the agent's login.",
        "None. Mails about them do not arrive; they are kept and tried again.",
        "Check mail.user and the password file that site.toml names. After a change: " + RESTART,
        "support",
    ),
    "mail_untrusted": (
        "The mail server shows a certificate that is not trusted, or offers no encryption. Nothing was sent to it.",
        "None. Mails about them do not arrive; they are kept and tried again.",
        "Check mail.server_name, mail.ca_file and mail.security of site.toml, and the time of day of this machine. "
        "After a change of site.toml: " + RESTART,
        "support",
    ),
    "mail_unusable": (
        "The agent cannot make up its mails: a file that site.toml names for them is missing or wrong.",
        "None. Mails about them do not arrive; they are kept and tried again.",
        "Check mail.password_file and mail.ca_file of site.toml; the log says which and why. After a change: "
        + RESTART,
        "support",
    ),
    "mail_unreachable": (
        "The mail server has not taken any mail for ten minutes.",
        "None. Mails about them wait and are tried again every minute.",
        "Check mail.server and mail.port of site.toml, and whether the server runs. After a change: " + RESTART,
        "support",
    ),
    "mail_too_old": (
        "A mail was given up after seven days in which the mail server never took it.",
        "None.",
        "See the journal for what it said (edgeagent bundle), and mend the way to the mail server.",
        "support",
    ),
    "store_full": (
        "The agent's disk is full: nothing is recorded.",
        "None: the agent keeps moving them, from memory.",
        "Free space where agent.state_folder of site.toml lies.",
        "support",
    ),
    "store_readonly": (
        "The agent's disk cannot be written: nothing is recorded.",
        "None: the agent keeps moving them, from memory.",
        "A worn SD card turns read-only: replace it. Else check mount and permissions of agent.state_folder.",
        "support",
    ),
    "store_hung": (
        "The agent's disk does not answer: nothing is recorded.",
        "None: the agent keeps moving them, from memory.",
        "Check the disk, or replace the SD card.",
        "support",
    ),
    "store_failed": (
        "The agent's history cannot be written: nothing is recorded.",
        "None: the agent keeps moving them, from memory.",
        "The log says why; check the disk, and that only one edgeagent runs.",
        "support",
    ),
    "store_newer": (
        "The agent's history was written by a newer edgeagent. It is left untouched; nothing is recorded.",
        "None: the agent keeps moving them, from memory.",
        "Install that version again, or move the file away.",
        "support",
    ),
    "store_set_aside": (
        "The agent's history was damaged; it was set aside and a new one begun.",
        "None.",
        "Keep the file store.db.damaged-1 for support; replace the SD card if it happens again.",
        "support",
    ),
}

# How a path is called where its own name in site.toml is not what people say.
PATHS: dict[str, str] = {"lte": "LTE"}

SCREENS: dict[str, str] = {
    "status": "{site}: voice on {path} ({phase}){lasting}; {phones} phones, {calls} in a call",
    "lasting": " for {seconds:.0f} s",
    "path": "  {name}: {verdict}, address {address}, {answered}",
    "path answered": "last answer {seconds:.1f} s ago",
    "path silent": "no answer yet",
    "fault": "  FAULT {code} since {since_s:.0f} s: {what} {meaning} To do ({who}): {todo}",
    "rows unprovisioned": "  the router is not provisioned",
    "rows other": "  another agent leads at the router: {owner}",
    "rows differ": "  {thing}: {kind}{detail}{left}",
    "rows detail": " ({attribute}: {was}, wanted {wanted})",
    "rows left": "; left as it is",
    "rows more": "  and {count} more that differ",
    "rows unapplied": "  {thing}: wanted otherwise than was applied; left as it is",
    "rows more unapplied": "  and {count} more that were not applied",
    "watch line": "{at_s:7.1f} s  {text}",
    "watch event failover": "failover to {path}",
    "watch event returning": "returning to primary: {waiting} phones go one by one, each when it costs no call",
    "watch event restored": "restored to primary",
    "watch event path": "{path} is {verdict}",
    "watch event path because": "{path} is {verdict}: {cause}",
    "watch event fault raised": "FAULT {code}: {what} {meaning} To do ({who}): {todo}",
    "watch event fault cleared": "over: {code}",
    "watch event drift found": "changed in the router: {thing}: {found}",
    "watch event drift mended": "put right in the router: {thing}: {found}",
    "watch event drift more": "and {more} more",
    "watch event led by": "another agent leads: {owner}",
    "watch event led": "no other agent leads any more",
    "watch event notice": "mail to {audience}: {kind}",
    "watch event other": "{kind}",
    "watch voice": "{site}: voice on {path} ({phase}){lasting}",
    "watch phones": "{phones} phones, {calls} in a call",
    "watch plan none": "data plan: not metered by this version",
    "watch plan": "data plan: {plan}",
    "watch mail": "mail: {queued} waiting",
    "watch mail failed": "mail: {queued} waiting, the last try failed ({failed})",
    "watch gone": "no agent answers at {file}: {why}. Asking again each second.",
    "watch columns": "path|verdict|for|last answer|lost in a row|address",
    "watch ago": "{seconds:.1f} s ago",
    "watch for": "{seconds:.0f} s",
    "watch end": "Ctrl-C ends the view, not the agent.",
    "config ok": "{file}: good. Site {site}, paths {paths}.",
    "config broken": (
        "Faults in the file: {count}. Nothing was started or changed. Correct them; edgeagent check-config tells when "
        "all is good. An agent that runs takes the file when it is started anew: systemctl restart edgeagent."
    ),
    "config current": "{file}: already of format {format}, nothing to migrate.",
    "config migrated": "{file}: migrated from format {before} to {after}. The old file is kept as {copy}. Changed:",
    "key added": "  {key}: added, {after}",
    "key removed": "  {key}: removed, was {before}",
    "key changed": "  {key}: {after}, was {before}",
    "setting": "{key} = {value}",
    "setting remark": "{setting}  # {remark}",
    "origin": "{origin}",
    "origin line": "{origin} line {line}",
    "plan none": "The router is as wanted: nothing to change.",
    "plan count": "{count} changes; nothing has been changed yet. Apply them with --apply.",
    "plan flush": "Applying ends with one flush of the voice flows, calls in progress included: they may break off.",
    "row without id": "{menu}: the router named a row without its number; nothing was changed, try again",
    "no next hop": (
        "path.{path}: the router has been given no next hop on {port} yet. Its rules stand and wait; as soon as there "
        "is one they are put right by themselves. Look at the modem or the line there."
    ),
    "client withdrawn": (
        "Stopped: our DHCP client on that port is off again, so that the router does not lose sight of the LAN. "
        "Nothing goes by the backup yet. Once the modem has another subnet: edgeagent provision --apply"
    ),
    "no canaries": (
        "path.primary.targets: fewer than two hosts beyond the line that are not the provider's. Without them the "
        "router has no fallback of its own: with the agent dead, a dead line is not left. Add such hosts."
    ),
    "canary silent": (
        "path.primary.targets: {host} does not answer the router's pings. The router's own fallback judges the line by "
        "it: while it is silent and the agent is not there, the phones are sent onto LTE. Choose another host."
    ),
    "flush failed": (
        "The router has too many {name} connections to be read, so none of them was flushed: calls and registrations "
        "that it fasttracks stay on their line until they end. The same command at a quiet hour flushes them."
    ),
    "applied": "{count} changes made.",
    "removed": "{count} rows removed.",
    "former unknown": (
        "{setting} is {value}, as we want it. What it was before is not known here, so it stays; set it yourself if it "
        "was another value."
    ),
    "agent runs": (
        "An agent of this site runs here already: it holds {file}. edgeagent status shows it; to run another one, stop "
        "it first (systemctl stop edgeagent)."
    ),
    "no agent": "No agent answers at {file}: {why}. Is it running?",
    "other format": "it speaks another format than this version",
    "unreadable": "{file}: {why}; expected a readable file",
    "router busy": "The running agent is just putting something right in the router. Run the same command again.",
    "router not reached": "The router cannot be reached: {why}",
    "provision stopped": "Stopped: {why}. What was done so far is safe; run the same command again.",
    "store stopped": "Stopped: {why}. Run the same command again.",
    "store ok": "{file}: good, format {found}. {lines} journal lines, {waiting} messages waiting.",
    "store older": (
        "{file}: good. Its format {found} becomes {known} when this version opens it; a copy of it stays beside it. "
        "{lines} journal lines, {waiting} messages waiting."
    ),
    "store none": "{file}: not there yet; the agent will make it.",
    "store empty": "{file}: good. Nothing is in it yet.",
    "store not usable": "Not usable: {why}",
    "identity": "installation {installation}\npublic site key {public}",
    "identity missing": "{file}: not there yet; edgeagent identity --create makes it.",
    "identity damaged": (
        "{file}: found {found}, expected {expected}. It was left as it is. Restore it from a backup, or move it away "
        "and run edgeagent identity --create: the site then is a new one to its provider's fleet."
    ),
    "address added": "{address} added to {name}.",
    "address removed": "{address} removed from {name}.",
    "addresses there": "{name} has all alias addresses.",
    "addresses none": "This site needs no alias addresses.",
    "address taken": (
        "{address} is in use by {mac} on the network of {name}, so it was not added: the agent has no alias address. "
        "Give path.*.source and agent.alias_prefix in site.toml a small subnet that nothing else uses."
    ),
    "addresses failed": "Stopped: {why}. It needs root and the ip command (package iproute2).",
    "no card": (
        "No network card with a link held agent.address {address} for {seconds:.0f} s. "
        "Check the cable, and that the machine gets this address (fixed, or reserved in the router's DHCP server)."
    ),
    "no group": "There is no group {name}; install.sh makes it.",
    "ping group foreign": (
        "net.ipv4.ping_group_range is {low} {high}, set by something else on this machine, and leaves group {group} "
        "out: the agent cannot ping. Widen it there to include {group}."
    ),
    "unit": "voice on {path} ({phase}); {what}",
    "unit well": "no fault",
    "unit waits": "waiting for the address of {name}",
    "registrar asked": "provider.registrar: {name} is at {address}.",
    "registrar remembered": "provider.registrar: {name} is taken to be at {address}, as last known ({why}).",
    "registrar outside": "{name} is at {found}, outside the provider's prefixes of site.toml",
    "registrar unknown": (
        "provider.registrar has no address: {why}. Check the name, voice.resolvers and the provider's prefixes in "
        "site.toml, and the line."
    ),
    "unit stops": "stopping; voice stays on {path} until the router's leases lapse",
    "owner no user": "Whose login is it? Name the router's owner with --ssh-user.",
    "owner no secret": (
        "No terminal to ask for the owner's password on: give --ssh-password-file or --ssh-key-file. Nothing was done."
    ),
    "owner password": "Password of {user} on the router: ",
    "owner passphrase": "Passphrase of {file}: ",
    "owner not text": "it is not UTF-8",
    "owner key unusable": "{why}; expected a private key as ssh-keygen writes it. Nothing was done.",
    "owner no connection": (
        "{why}. Check that /ip service ssh of the router is on and lets agent.address in, that agent.address is this "
        "machine's, and --ssh-port. Where the router made itself new host keys, compare them and remove {file}. "
        "Nothing was done."
    ),
    "owner refused": "{why}; check --ssh-user, its password or key, and where it may log in from. Nothing was done.",
    "owner connected": "Connected to the router {address}. Its host key is {found} ({file}).",
    "host key shown": "The router {address} shows the host key\n  {found}",
    "host key question": "Is it the router's own? Type yes to trust it from now on: ",
    "host key declined": "Not trusted; nothing was done.",
    "host key unknown": (
        "The router's host key is {found}, and nobody vouched for it yet. Compare it with the router's own and give it "
        "with --host-key, or run the command on a terminal. Nothing was done."
    ),
    "host key other": (
        "The router's host key is {found}; expected {expected}, which --host-key says. Either that was mistyped or "
        "something stands between this machine and the router. Nothing was done."
    ),
    "host key changed": (
        "The router's host key is {found}; expected {expected}, which stands in {file}. If the router was replaced or "
        "reset, compare the new key with the router's own, remove that file and give the key with --host-key; if not, "
        "something stands between this machine and the router. Nothing was done."
    ),
    "host key unreadable": (
        "{file}: found no host key; expected a line such as ssh-rsa AAAA... . Remove it to pair anew. Nothing was done."
    ),
    "not written": "{file}: {why}; expected a file in a folder that can be written. Run the command as root.",
    "bad seconds": "expected whole seconds from {least} to {most}",
    "bootstrap blocks": "In the way:",
    "bootstrap warns": "Note:",
    "bootstrap blocked": "{count} things stand in the way. Nothing was changed. Mend them, then run it again.",
    "bootstrap version untested": (
        "RouterOS {version} is newer than any that this edgeagent was tested with. It should do; run a failover test."
    ),
    "bootstrap policies": (
        "/user: {user} of the group {group} lacks the policies {missing}; expected those of the group full. Log in as "
        "a user of that group."
    ),
    "bootstrap device-mode": (
        "/system device-mode: found {mode}, in which the router runs no jobs; so it cannot undo by itself what follows "
        "if this run is broken off. The commands that undo it are shown and kept. To allow jobs: /system device-mode "
        "update mode=advanced, then press the router's button or cut its power within five minutes."
    ),
    "bootstrap space": (
        "/system resource: free-hdd-space is {free} KiB; expected {need} KiB or more, for a backup before anything is "
        "changed. Remove files (/file print), such as old backups or packages."
    ),
    "bootstrap flash": (
        "/system resource: free-hdd-space is {free} KiB; expected {need} KiB or more, for the agent's user and "
        "certificate. Remove files below flash (/file print), such as old backups, or packages that are not needed."
    ),
    "bootstrap memory": (
        "/system resource: free-memory is {free} KiB; expected {need} KiB or more: this board keeps new files in "
        "memory, and a backup is taken before anything is changed. Remove files (/file print), or reboot it."
    ),
    "bootstrap clock wrong": (
        "/system clock: found {theirs}, more than a day from this machine's {ours} UTC; certificates and logs would be "
        "wrong. Set whichever is wrong: on the router /system clock set date= time=, better /system ntp client."
    ),
    "bootstrap clock odd": (
        "/system clock: found {theirs}, some minutes from this machine's {ours} UTC. Logs will be hard to compare; "
        "turn on /system ntp client."
    ),
    "bootstrap clock unknown": (
        "/system clock: found {theirs}; this machine's own clock was never set, so nobody can tell whether that is "
        "right."
    ),
    "bootstrap port": (
        "/ip service api-ssl: found port {found}; expected {expected}, which router.port of site.toml says. Change one."
    ),
    "bootstrap service in use": (
        "/ip service api-ssl: it is on, with the certificate {certificate}, for the addresses: {address}. It gets the "
        "agent's certificate and lets in the agent alone: whatever else uses it is locked out, until --remove."
    ),
    "bootstrap plain api": (
        "/ip service api: the plain API on port {port} is on and open to every address. The agent never uses it; turn "
        "it off where nothing else does: /ip service disable api."
    ),
    "bootstrap subnet": (
        "/ip address: {address} on {interface} overlaps agent.alias_prefix {prefix} of site.toml; expected a subnet "
        "that nothing else uses. Choose another one there."
    ),
    "bootstrap default route": (
        "/ip route: the owner's route to {destination} leads through the backup's port {interface} (gateway "
        "{gateway}); expected no default and no large part of one there, else all traffic would use the data plan "
        "when the line dies. Remove or disable it."
    ),
    "bootstrap networks doubled": (
        "/ip address: {address} on the backup's port {interface} (the modem's own network) overlaps {other} on {at}; "
        "expected a network that no other port has, else the router looks for its hosts at both. Give the modem "
        "another LAN subnet in its own settings, and change path.*.modem_page of site.toml where it is set."
    ),
    "bootstrap default by dhcp": (
        "/ip dhcp-client: the client on the backup's port {interface} takes a default route; expected "
        "add-default-route=no, else all traffic would use the data plan when the line dies. /ip dhcp-client set "
        "[find interface={interface}] add-default-route=no"
    ),
    "bootstrap wan list": (
        "/interface list member: the backup's port {interface} is in the list WAN; expected not to be, for the owner's "
        "rules for that list would let everything out by it. Remove it from the list."
    ),
    "bootstrap name taken": (
        "The router has a {what} named {name} that is not known to be the agent's. Remove or rename it; a user can be "
        "handed over by its comment: edgeagent:access."
    ),
    "bootstrap nothing": "The agent's access is in place and works: nothing was changed.",
    "bootstrap resumed": "An earlier run was broken off; it is taken up. Its backup is kept.",
    "bootstrap empty": "{file}: the router wrote an empty file",
    "bootstrap backup": (
        "Backup: {file}.backup ({backup} bytes, encrypted; password in {file}.password) and {file}.rsc ({export} bytes)"
    ),
    "bootstrap armed": "The router undoes what follows in {seconds} s, unless the new access is proved before.",
    "bootstrap unarmed": "The router cannot undo what follows by itself. To undo it (kept in {file}):\n  {lines}",
    "bootstrap group": "Group edgeagent made: api, read, test, write.",
    "bootstrap user": "The agent's user made: for its own address only, its password in router.password_file.",
    "bootstrap certificate": "Certificate made, given to the router, and pinned in router.certificate.",
    "bootstrap service": "api-ssl turned on with it, for the agent's address only.",
    "bootstrap proved": "Proved: the agent's user logs in over api-ssl.",
    "bootstrap done": "Done: {user} works with the router over api-ssl, port {port}. Next: edgeagent provision --plan",
    "bootstrap done, running": (
        "Done: {user} works with the router over api-ssl, port {port}. The agent that runs here was handed its "
        "password when it started. Next: sudo systemctl restart edgeagent, then edgeagent provision --plan"
    ),
    "bootstrap complaint": "the router answered {line} by: {printed}",
    "bootstrap no certificate": "the router has not taken the certificate with its key",
    "bootstrap rolled back": "the rollback came first; the router is as before",
    "bootstrap stopped": (
        "Stopped: {why}. The router goes back by itself, if that was announced above; or run the same command again, "
        "which goes on from here."
    ),
    "bootstrap interrupted": "Stopped. Run the same command again; it goes on from here.",
    "access removed": "The agent's user, group and certificate were removed from the router, and api-ssl given back.",
    "access none": "The router has no user, group or certificate of the agent's.",
    "access left": "still on the router: {parts}",
    "access remains": (
        "The agent's own user cannot remove itself. Give these on the router, or run this command again with "
        "--ssh-user and the owner's name:\n  {lines}"
    ),
    "version refused": "RouterOS {version} is not supported; expected 6.49 or a later 6, or 7.12 or a later 7.",
    "bundle written": "{file}: {count} KiB. Nothing was sent: look into it, then hand it to the support desk.",
    "bundle missing": "  missing: {what}",
    "bundle part": "{name}: {why}",
    "bundle refused": "No bundle was written: a secret of this site stands in {name}. Please tell the developers.",
    "bundle not written": "{file}: {why}; expected a new file in a folder that can be written. Name one with --output.",
    "secret unread": "{file}: {why}, so what it holds was not looked for in the bundle. Run the command as root.",
    "no answer": "no answer in time",
    "bundle config broken": "site.toml cannot be used; its {count} problems stand there",
    "store not read": "the store was not read whole: {what}",
    "manifest head": "edgeagent support bundle, format {version}, made {what}. Nothing was sent anywhere.",
    "manifest files": "Files and their sizes in bytes:",
    "manifest left out": "    of its beginning {count} bytes were left out: a bundle has a limit",
    "manifest absent": "  {name} is not there: this machine has nothing for it",
    "manifest missing": "Missing, and why:",
    "manifest complete": "Nothing is missing.",
    "manifest redacted": "Withheld, how often, and what stands in its place:",
    "manifest short secret": "  {file} holds a secret too short to be looked for",
    "manifest end": (
        "A pseudonym such as far-1 means the same in every file of this bundle, and something else in the next. "
        "Before it was written, every file was searched for the secrets of this site; none was found."
    ),
    "manifest MANIFEST.txt": "this file",
    "manifest status.json": "what the running agent says of itself",
    "manifest config.json": "the settings in force, or what is wrong with site.toml",
    "manifest store.json": "health of the store; mails by state and kind, without contents",
    "manifest versions.json": "the agent, what it stands on, what it is made of",
    "manifest machine.json": "load, memory, disk, temperature, the agent's process",
    "manifest network.json": "interfaces and own addresses of the agent's machine",
    "manifest journal.jsonl": "the end of the journal, a line for each record",
    "manifest log.txt": "the end of the service's log",
    "manifest facts.jsonl": "the last measurements that decisions were made from",
    "withheld secret": "[secret]: a password or key",
    "withheld key": "[key]: a certificate or private key",
    "withheld name": "[name]: a name, account or mail address of this site, or a caller's",
    "withheld sip": "[sip]: a SIP or telephone address",
    "withheld mail": "[mail]: a mail address",
    "withheld number": "[number]: what may be a telephone number",
    "withheld word": "an ellipsis: a word that is not one of this program's, so it may be a name",
    "withheld value": "[withheld]: a value of an unknown kind",
    "withheld unlisted key": "[withheld]: a setting or row that is not on the list of those that may leave",
    "withheld journal kind": "[withheld]: a record of a kind that is not on that list",
    "alias far": "far-1, far-2, ...: an address that is not the site's own",
    "alias phone": "phone-1, phone-2, ...: an address on the site's network",
    "alias uplink": "uplink-PATH: the address that the router has on that path",
    "alias mac": "mac-1, mac-2, ...: a hardware address",
}

# What --help says: by command, and by command and option.
# What stands in the way of provisioning, or will work differently, by code of routeros/obstacles.py.
OBSTACLES: dict[str, str] = {
    "rp-filter strict": (
        "/ip/settings: rp-filter is strict, so the router drops what comes back by a backup: no failover can work. "
        "Expected no or loose. Set it: /ip settings set rp-filter=loose"
    ),
    "subnet overlaps": (
        "/ip/address: {address} on {port} overlaps agent.alias_prefix {own}, which has to be the agent's alone. Choose "
        "another small subnet in site.toml for agent.alias_prefix, path.*.source and router.alias_address."
    ),
    "backup in WAN": (
        "/interface/list/member: {port} is in the list WAN, so rules that are meant for the primary line would let the "
        "LAN out there. Take it out: /interface list member remove [find list=WAN interface={port}]"
    ),
    "backup has a client": (
        "/ip/dhcp-client: {port} has a DHCP client already; a port can have one only, and ours takes no default route "
        "or name servers. Remove it: /ip dhcp-client remove [find interface={port}]"
    ),
    "networks doubled": (
        "/ip/address: {address} on the backup's port {port} (the modem's own network) overlaps {other} on "
        "{other_port}, so the router would look for its hosts at both ports. Give the modem another LAN subnet in its "
        "own settings, and change path.*.modem_page of site.toml where it is set."
    ),
    "backup has a default by dhcp": (
        "/ip/dhcp-client: the client of {port} takes a default route, by which everything would go there. Set: "
        "/ip dhcp-client set [find interface={port}] add-default-route=no"
    ),
    "backup has a default": (
        "/ip/route: the owner's route to {destination} (gateway {gateway}) leads through the backup's port {port}, so "
        "everything would go there when the line dies. Remove or disable it."
    ),
    "owner marks": (
        "Good to know: {count} prerouting marks of the owner's stand below our rules and no longer see voice that is "
        "led onto a line by a lease. All else is marked as before."
    ),
}

# What a group of changes is for, by code of routeros/meaning.py.
MEANINGS: dict[str, str] = {
    "ports": "The backup's port: out of the bridge, an address of its own, never a default route:",
    "settings": "Settings of the owner's that are adopted; what they were is kept and given back by --remove:",
    "lists": "Who the provider is, who a voice device, whose packets are probes:",
    "routes": "A routing table for each line, and what is always looked up there:",
    "marks": "Each call remembers on which line it was born:",
    "learning": "Devices that the provider answers are voice devices for a week:",
    "translation": "Addresses are translated: on a backup all, on the primary those of voice and of probes:",
    "drill": "The installer's test: does nothing while its list is empty:",
    "passage": "Only voice and what the agent needs may cross a backup, everything else is dropped:",
    "ipv6": "No IPv6 crosses a backup, and phones stay on IPv4:",
    "steering": "Voice goes by the line that a lease names; probes never follow a lease:",
    "names": "On a backup the names that phones ask for go to the site's resolvers:",
    "fallback": "The router's own fallback, for when the agent is dead:",
    "throttle": "A queue for each backup; it limits nothing until the provider says so:",
    "removals": "No longer wanted:",
}

# Of scripts for a person to import (firmware-scripts/). Each line is a remark, but for those that the router says.
SCRIPTS: dict[str, str] = {
    "rules": """edgeagent's standing rules for {title}, RouterOS {version}.
Made by python -m tests.rendered from docs/site.toml: an example with documentation addresses. Not for a real site
as it stands: a site's own rules are made, and told apart from its owner's, by edgeagent provision.
Upload it and give: /import file-name={name} verbose=yes
Without verbose=yes another version of RouterOS refuses it with "bad command name"; nothing is changed then either.
If it stops half way, import remove.rsc before trying again.""",
    "lease": """What the DHCP clients of both lines run when they are given another address or next hop.
For RouterOS {version}. edgeagent provision puts it there, and so do the scripts in rendered/.
This one puts it back where it was lost.""",
    "netwatch": """The flush of the native fallback for {title}, both versions.
For a router whose device-mode forbids jobs by the clock; it takes the place of the job edge-flush.
Netwatch grants a script the policies read, write, test and reboot; this one needs read and write.""",
    "removal": """Takes away all that edgeagent put into a router, both versions. Stop the agent first.
edgeagent provision --remove does the same, and knows what the adopted settings were.
A script cannot know what the adopted settings were. These get the value that a factory-new router has:
the UDP timers, the SIP helper, discovery, and of the backups' ports bridge membership and PoE-out.
Change them again where the owner had others. All else of the owner's stays as it is.
Upload it and give: /import file-name=remove.rsc""",
    "wrong version": "edgeagent: this script is for RouterOS {version}; nothing was changed",
    "rows there": "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed",
    "no rows": "edgeagent: the rows that this belongs to are not there; nothing was changed",
    "checks": "Nothing is changed unless the version is right and nothing of ours is there:",
    "settings": "Settings of the owner's that are adopted. Note what they were: remove.rsc knows only the factory's:",
    "settings before": "What has to be so before our rows can stand. Note what it was before:",
    "job": "Where device-mode forbids jobs by the clock, the rest stands all the same:",
    "no job": "edgeagent: no job could be made; import netwatch.rsc of this model, or allow scheduler in device-mode",
    "places": "Where ours stand: above all rows that can be moved. These go again at the end:",
    "places gone": "The places are not needed any more:",
    "told": "What the DHCP clients have been told already:",
    "first gone": "First what moves phones by itself:",
    "rows gone": "Then all else, in the reverse of the order in which it was made:",
    "routes gone": "Routes so that voice is never on the backup meanwhile:",
    "timed gone": "What the rules, or an agent, have put into our lists for a time:",
    "settings back": "Adopted settings, while it is still known which ports were the backups':",
    "last gone": "What the others stood on:",
    "flows": "Flows that were fasttracked or unmarked before the rules stood would go on as before:",
}

HELP: dict[str, str] = {
    "": "Keeps a site's phones reachable over LTE.",
    "--site": "the site's configuration (%(default)s)",
    "run": "run the agent in the foreground",
    "run --verbose": "log every probe that could not be sent",
    "check-config": "check site.toml and say everything that is wrong with it",
    "check-store": "say whether this version can use a store, tried on a copy; the store itself is not touched",
    "check-store file": "the store (the one of the site)",
    "check-config --migrate": "first rewrite a file of an older format to the current one, keeping a copy",
    "config": "the settings in force, and the numbers that decisions use",
    "config --origin": "say of each where it came from",
    "config --json": "as one JSON document, with origins",
    "status": "where voice goes now, and what is wrong",
    "status --json": "the whole status document",
    "status --watch": "a live view, until Ctrl-C; where the output is no terminal, a line for each change",
    "addresses": "add the alias addresses of site.toml to the network card, and let the agent's group ping (root)",
    "addresses --add": "check each for duplicates, then add what is missing",
    "addresses --remove": "undo that",
    "addresses --group": "the group that may open ICMP sockets (%(default)s)",
    "addresses --wait": "how long to wait for the card and its address (%(default)s)",
    "identity": "this installation's id and public key",
    "identity --create": "make what is missing, then show it",
    "identity --show": "show it",
    "identity --folder": "the state folder (%(default)s)",
    "provision": "put the rules that failover needs into the router",
    "provision --plan": "show what would change, change nothing",
    "provision --apply": "make the router so",
    "provision --remove": "take everything of ours away, give settings back",
    "provision --bootstrap": (
        "bring the agent's access into a router that has none: a user and a certificate, with its owner's SSH login"
    ),
    "provision --ssh-user": "the router's owner (with --bootstrap; with --remove, to take the access away too)",
    "provision --ssh-port": "the port of the router's SSH service (%(default)s)",
    "provision --ssh-password-file": "the file that holds the owner's password; without it the terminal is asked",
    "provision --ssh-key-file": "the owner's private SSH key, instead of a password",
    "provision --host-key": "the router's host key as SHA256:..., where no terminal can be asked whether it is right",
    "provision --rollback": (
        "after so long the router undoes a bootstrap that was not brought to its end (%(default)s)"
    ),
    "bundle": "make one file for the support desk, without secrets, numbers and names; nothing is sent",
    "bundle --output": "where to write it (edgeagent-SITE-TIME.tar.gz in the present folder)",
}

# The sections of the manual page that no command tells, in their order: tag and text, the tag empty for a paragraph.
MANUAL: dict[str, tuple[tuple[str, str], ...]] = {
    "exit status": (
        ("0", "Good."),
        ("1", "Not so: a fault stands, something is missing, or a command stopped half way and can be run again."),
        ("2", "Cannot: the command line or site.toml is wrong, or nothing answers. The message says what to do next."),
        ("3", "Of run: the core failed, and the service manager is to start the agent anew."),
        (
            "3",
            "Of check-store: it could not be tried, for want of space or because the disk fails.",
        ),
        ("4", "Of run only: the registrar's name has another address, and the agent is to be started with it."),
    ),
    "files": (
        ("/etc/edgeagent/site.toml", "The configuration of the site. Passwords stand in files that it names."),
        ("/var/lib/edgeagent/store.db", "Journal, mails that wait, and the state to go on from."),
        ("/var/lib/edgeagent/store.db.damaged-1", "A damaged store that was set aside for a person to look at."),
        ("/var/lib/edgeagent/agent.lock", "Held by the running agent, so that no second one runs."),
        ("/run/edgeagent/control.sock", "Where the running agent tells its status."),
    ),
    "environment": (
        ("NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID", "How systemd is told that the agent is ready and alive."),
        ("CREDENTIALS_DIRECTORY", "Where systemd hands over passwords; they are taken before the files themselves."),
    ),
    "signals": (
        ("SIGTERM, SIGINT", "End run in order. The router is left as it is: what the agent holds in it lapses."),
    ),
    "see also": (("", "systemctl(1), journalctl(1), systemd.service(5)"),),
}
