# edgeagent's standing rules for MikroTik RB2011UiAS, RouterOS 6.49.
# Made by python -m tests.rendered from docs/site.toml: an example with documentation addresses. Not for a real site
# as it stands: a site's own rules are made, and told apart from its owner's, by edgeagent provision.
# Upload it and give: /import file-name=rb2011-6.49.rsc verbose=yes
# Without verbose=yes another version of RouterOS refuses it with "bad command name"; nothing is changed then either.
# If it stops half way, import remove.rsc before trying again.

# Nothing is changed unless the version is right and nothing of ours is there:
:if (!([/system resource get version] ~ "^6\\.49")) do={ :error "edgeagent: this script is for RouterOS 6.49; nothing was changed" }
:if ([:len [/interface list find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip firewall filter find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/interface list member find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip dhcp-client find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip firewall address-list find where comment~"^edgeagent:" and dynamic=no]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip address find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip route find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip route rule find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip firewall mangle find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip firewall nat find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ipv6 firewall filter find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/system scheduler find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/queue simple find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }
:if ([:len [/ip dhcp-client find where script~"# edgeagent: from here"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }

# What has to be so before our rows can stand. Note what it was before:
/interface bridge port set [find where interface=ether10] disabled=yes
/interface ethernet set [find where name=ether10] poe-out=off

# Where ours stand: above all rows that can be moved. These go again at the end:
/ip firewall mangle
add chain=forward action=passthrough disabled=yes comment="edgeagent:here"
:if ([:len [/ip firewall mangle find where dynamic=no]] > 1) do={ /ip firewall mangle move [find where comment="edgeagent:here"] destination=[:pick [/ip firewall mangle find where dynamic=no] 0] }
/ip firewall filter
add chain=forward action=passthrough disabled=yes comment="edgeagent:here"
:if ([:len [/ip firewall filter find where dynamic=no]] > 1) do={ /ip firewall filter move [find where comment="edgeagent:here"] destination=[:pick [/ip firewall filter find where dynamic=no] 0] }
/ip firewall nat
add chain=srcnat action=passthrough disabled=yes comment="edgeagent:here"
:if ([:len [/ip firewall nat find where dynamic=no]] > 1) do={ /ip firewall nat move [find where comment="edgeagent:here"] destination=[:pick [/ip firewall nat find where dynamic=no] 0] }
/ip route rule
add action=lookup table=main disabled=yes comment="edgeagent:here"
:if ([:len [/ip route rule find]] > 1) do={ /ip route rule move [find where comment="edgeagent:here"] destination=[:pick [/ip route rule find] 0] }
/ipv6 firewall filter
add chain=forward action=passthrough disabled=yes comment="edgeagent:here"
:if ([:len [/ipv6 firewall filter find where dynamic=no]] > 1) do={ /ipv6 firewall filter move [find where comment="edgeagent:here"] destination=[:pick [/ipv6 firewall filter find where dynamic=no] 0] }

# The backup's port: out of the bridge, an address of its own, never a default route:
/interface list
add comment="edgeagent:backups" name=edge-backups

# The installer's test: does nothing while its list is empty:
/ip firewall filter
add comment="edgeagent:drill-voice" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=drop src-address-list=edge-drill out-interface=ether1 dst-address-list=edge-voip
add comment="edgeagent:drill-probes" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=drop src-address-list=edge-drill out-interface=ether1 dst-address-list=edge-agent
add comment="edgeagent:drill-back" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=drop dst-address-list=edge-drill in-interface=ether1 src-address-list=edge-voip

# Only voice and what the agent needs may cross a backup, everything else is dropped:
/ip firewall filter
add comment="edgeagent:tcp-anew" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=reject protocol=tcp reject-with=tcp-reset dst-address-list=edge-voip connection-state=new \
    tcp-flags=!syn
add comment="edgeagent:out-lte-bare" place-before=[find where comment="edgeagent:here"] chain=edge-lte-out \
    action=drop connection-state=established,related connection-nat-state=!srcnat
add comment="edgeagent:out-lte-invalid" place-before=[find where comment="edgeagent:here"] \
    chain=edge-lte-out action=drop connection-state=invalid
add comment="edgeagent:out-lte-voice" place-before=[find where comment="edgeagent:here"] chain=edge-lte-out \
    action=accept src-address-list=edge-phones dst-address-list=edge-voip
add comment="edgeagent:out-lte-newcomers" place-before=[find where comment="edgeagent:here"] \
    chain=edge-lte-out action=accept dst-address-list=edge-voip protocol=udp dst-port=5060,5061 \
    limit="5,20:packet"
add comment="edgeagent:out-lte-agent-ping" place-before=[find where comment="edgeagent:here"] \
    chain=edge-lte-out action=accept protocol=icmp src-address-list=edge-probe dst-address-list=edge-agent
add comment="edgeagent:out-lte-agent-sip" place-before=[find where comment="edgeagent:here"] \
    chain=edge-lte-out action=accept protocol=udp dst-port=5060,5061 src-address-list=edge-probe \
    dst-address-list=edge-agent
add comment="edgeagent:out-lte-agent-mail" place-before=[find where comment="edgeagent:here"] \
    chain=edge-lte-out action=accept protocol=tcp dst-port=465 src-address-list=edge-probe \
    dst-address-list=edge-agent
add comment="edgeagent:out-lte-rest" place-before=[find where comment="edgeagent:here"] chain=edge-lte-out \
    action=drop
add comment="edgeagent:in-lte-voice" place-before=[find where comment="edgeagent:here"] chain=edge-lte-in \
    action=accept connection-state=established src-address-list=edge-voip
add comment="edgeagent:in-lte-agent" place-before=[find where comment="edgeagent:here"] chain=edge-lte-in \
    action=accept connection-state=established src-address-list=edge-agent dst-address-list=edge-probe
add comment="edgeagent:in-lte-errors" place-before=[find where comment="edgeagent:here"] chain=edge-lte-in \
    action=accept protocol=icmp connection-state=related limit="5,5:packet"
add comment="edgeagent:in-lte-rest" place-before=[find where comment="edgeagent:here"] chain=edge-lte-in \
    action=drop
add comment="edgeagent:jump-out-lte" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=jump out-interface=ether10 jump-target=edge-lte-out
add comment="edgeagent:jump-in-lte" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=jump in-interface=ether10 jump-target=edge-lte-in
add comment="edgeagent:voice-out" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=accept connection-state=established,related dst-address-list=edge-voip
add comment="edgeagent:voice-in" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=accept connection-state=established,related src-address-list=edge-voip

# The backup's port: out of the bridge, an address of its own, never a default route:
/interface list member
add comment="edgeagent:backup-lte" list=edge-backups interface=ether10
/ip dhcp-client
add comment="edgeagent:dhcp-lte" interface=ether10 add-default-route=no use-peer-dns=no use-peer-ntp=no \
    script=":if (\$bound = 1) do={\
    \n  :local edgeGate [:tostr \$\"gateway-address\"]\
    \n  :foreach edgeRow in=[/ip route find where comment~\"^edgeagent:(default-edge-lte\\\$|native-lte-)\"] do={\
    \n    :if ([:tostr [/ip route get \$edgeRow gateway]] != \$edgeGate) do={\
    \n      /ip route set \$edgeRow gateway=\$edgeGate\
    \n    }\
    \n  }\
    \n  :local edgeOwn ([:tostr \$\"lease-address\"] . \"/32\")\
    \n  :foreach edgeRow in=[/ip route rule find where comment=\"edgeagent:own-lte\"] do={\
    \n    :if ([:tostr [/ip route rule get \$edgeRow src-address]] != \$edgeOwn) do={\
    \n      /ip route rule set \$edgeRow src-address=\$edgeOwn\
    \n    }\
    \n  }\
    \n}"

# Who the provider is, who a voice device, whose packets are probes:
/ip firewall address-list
add comment="edgeagent:edge-voip/203.0.113.0/27" list=edge-voip address=203.0.113.0/27
add comment="edgeagent:edge-probe/10.88.77.2" list=edge-probe address=10.88.77.2
add comment="edgeagent:edge-probe/10.88.77.3" list=edge-probe address=10.88.77.3
add comment="edgeagent:edge-agent/203.0.113.10" list=edge-agent address=203.0.113.10
add comment="edgeagent:edge-agent/203.0.113.40" list=edge-agent address=203.0.113.40
add comment="edgeagent:edge-agent/203.0.113.129" list=edge-agent address=203.0.113.129
add comment="edgeagent:edge-agent/203.0.113.130" list=edge-agent address=203.0.113.130
add comment="edgeagent:edge-agent/203.0.113.131" list=edge-agent address=203.0.113.131

# A routing table for each line, and what is always looked up there:
/ip address
add comment="edgeagent:alias" address=10.88.77.1/29 interface=bridge
/ip route
add comment="edgeagent:blackhole" dst-address=0.0.0.0/0 type=blackhole distance=254
add comment="edgeagent:default-edge-wan" dst-address=0.0.0.0/0 gateway=169.254.255.254 routing-mark=edge-wan
add comment="edgeagent:default-edge-lte" dst-address=0.0.0.0/0 gateway=169.254.255.254 routing-mark=edge-lte
/ip route rule
add comment="edgeagent:probe-wan" place-before=[find where comment="edgeagent:here"] \
    src-address=10.88.77.2/32 action=lookup-only-in-table table=edge-wan
add comment="edgeagent:probe-lte" place-before=[find where comment="edgeagent:here"] \
    src-address=10.88.77.3/32 action=lookup-only-in-table table=edge-lte
add comment="edgeagent:own-lte" place-before=[find where comment="edgeagent:here"] \
    src-address=169.254.255.254/32 action=lookup table=edge-lte

# Each call remembers on which line it was born:
/ip firewall mangle
add comment="edgeagent:born-wan" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=mark-connection passthrough=no out-interface=ether1 dst-address-list=edge-voip \
    src-address-list=!edge-probe connection-state=new new-connection-mark=edge-wan
add comment="edgeagent:media-lte" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=mark-connection passthrough=no out-interface=ether10 dst-address-list=edge-voip \
    src-address-list=!edge-probe connection-state=new protocol=udp dst-port=!5060,5061 \
    new-connection-mark=edge-lte-media
add comment="edgeagent:born-lte" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=mark-connection passthrough=no out-interface=ether10 dst-address-list=edge-voip \
    src-address-list=!edge-probe connection-state=new new-connection-mark=edge-lte

# Devices that the provider answers are voice devices for a week:
/ip firewall mangle
add comment="edgeagent:learn-udp" place-before=[find where comment="edgeagent:here"] protocol=udp \
    chain=forward action=add-dst-to-address-list address-list=edge-phones address-list-timeout=1w \
    src-address-list=edge-voip dst-address-list=!edge-probe connection-state=established src-port=5060,5061
add comment="edgeagent:learn-tcp" place-before=[find where comment="edgeagent:here"] protocol=tcp \
    packet-size=300-65535 chain=forward action=add-dst-to-address-list address-list=edge-phones \
    address-list-timeout=1w src-address-list=edge-voip dst-address-list=!edge-probe \
    connection-state=established src-port=5060,5061

# Addresses are translated: on a backup all, on the primary those of voice and of probes:
/ip firewall nat
add comment="edgeagent:voice-out-wan" place-before=[find where comment="edgeagent:here"] chain=srcnat \
    action=masquerade out-interface=ether1 dst-address-list=edge-voip
add comment="edgeagent:probes-out-wan" place-before=[find where comment="edgeagent:here"] chain=srcnat \
    action=masquerade out-interface=ether1 src-address-list=edge-probe
add comment="edgeagent:out-lte" place-before=[find where comment="edgeagent:here"] chain=srcnat \
    action=masquerade out-interface=ether10

# Only voice and what the agent needs may cross a backup, everything else is dropped:
/ip firewall filter
add comment="edgeagent:unasked-wan" place-before=[find where comment="edgeagent:here"] chain=input \
    action=drop protocol=udp connection-state=new in-interface=ether1 src-address-list=edge-voip
add comment="edgeagent:unasked-lte" place-before=[find where comment="edgeagent:here"] chain=input \
    action=drop protocol=udp connection-state=new in-interface=ether10 src-address-list=edge-voip
/ip firewall mangle
add comment="edgeagent:asked-lte" place-before=[find where comment="edgeagent:here"] chain=input \
    in-interface=ether10 protocol=icmp connection-state=new action=mark-connection \
    new-connection-mark=edge-lte-ping passthrough=no
/ip firewall filter
add comment="edgeagent:input-lte-known" place-before=[find where comment="edgeagent:here"] action=accept \
    chain=input in-interface=ether10 connection-state=established,related
add comment="edgeagent:input-lte-ping" place-before=[find where comment="edgeagent:here"] action=accept \
    chain=input in-interface=ether10 protocol=icmp limit="5,5:packet"
add comment="edgeagent:input-lte-rest" place-before=[find where comment="edgeagent:here"] action=drop \
    chain=input in-interface=ether10
add comment="edgeagent:output-lte-dhcp" place-before=[find where comment="edgeagent:here"] action=accept \
    chain=output out-interface=ether10 protocol=udp src-port=68 dst-port=67
add comment="edgeagent:output-lte-ping" place-before=[find where comment="edgeagent:here"] action=accept \
    chain=output out-interface=ether10 protocol=icmp connection-state=established \
    connection-mark=edge-lte-ping limit="5,5:packet"
add comment="edgeagent:output-lte-rest" place-before=[find where comment="edgeagent:here"] action=drop \
    chain=output out-interface=ether10

# No IPv6 crosses a backup, and phones stay on IPv4:
/ipv6 firewall filter
add comment="edgeagent:six-forward-lte-out" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=drop out-interface=ether10
add comment="edgeagent:six-forward-lte-in" place-before=[find where comment="edgeagent:here"] chain=forward \
    action=drop in-interface=ether10
add comment="edgeagent:six-input-lte-in" place-before=[find where comment="edgeagent:here"] chain=input \
    action=drop in-interface=ether10
add comment="edgeagent:six-output-lte-out" place-before=[find where comment="edgeagent:here"] chain=output \
    action=drop out-interface=ether10

# Voice goes by the line that a lease names; probes never follow a lease:
/ip firewall mangle
add comment="edgeagent:probes" place-before=[find where comment="edgeagent:here"] chain=prerouting \
    action=accept src-address-list=edge-probe
add comment="edgeagent:pin-lte" place-before=[find where comment="edgeagent:here"] chain=prerouting \
    action=mark-routing passthrough=no new-routing-mark=edge-lte connection-mark=edge-lte-media \
    dst-address-list=edge-voip
add comment="edgeagent:phone-lte" place-before=[find where comment="edgeagent:here"] chain=prerouting \
    action=mark-routing passthrough=no new-routing-mark=edge-lte src-address-list=edge-lte-phone \
    dst-address-list=edge-voip
add comment="edgeagent:phone-wan" place-before=[find where comment="edgeagent:here"] chain=prerouting \
    action=mark-routing passthrough=no new-routing-mark=edge-wan src-address-list=edge-wan-phone \
    dst-address-list=edge-voip
add comment="edgeagent:site-lte" place-before=[find where comment="edgeagent:here"] chain=prerouting \
    action=mark-routing passthrough=no new-routing-mark=edge-lte src-address-list=edge-lte-site \
    dst-address-list=edge-voip
add comment="edgeagent:site-wan" place-before=[find where comment="edgeagent:here"] chain=prerouting \
    action=mark-routing passthrough=no new-routing-mark=edge-wan src-address-list=edge-wan-site \
    dst-address-list=edge-voip

# The router's own fallback, for when the agent is dead:
/ip route
add comment="edgeagent:canary-203.0.113.129" dst-address=203.0.113.129/32 gateway=169.254.255.254 distance=1 \
    scope=10 target-scope=10
add comment="edgeagent:canary-203.0.113.130" dst-address=203.0.113.130/32 gateway=169.254.255.254 distance=1 \
    scope=10 target-scope=10
add comment="edgeagent:native-wan-1-203.0.113.0/27" dst-address=203.0.113.0/27 gateway=203.0.113.129 \
    distance=1 check-gateway=ping target-scope=11
add comment="edgeagent:native-wan-2-203.0.113.0/27" dst-address=203.0.113.0/27 gateway=203.0.113.130 \
    distance=2 check-gateway=ping target-scope=11
add comment="edgeagent:native-lte-203.0.113.0/27" dst-address=203.0.113.0/27 gateway=169.254.255.254 \
    distance=10

# A queue for each backup; it limits nothing until the provider says so:
/queue simple
add comment="edgeagent:throttle-lte" name=edge-lte target=ether10

# Where device-mode forbids jobs by the clock, the rest stands all the same:
:do {
/system scheduler add comment="edgeagent:flush" name=edge-flush start-time=startup interval=10s \
    policy=read,write \
    on-event=":if ([:len [/ip firewall address-list find where dynamic=yes and (list=\"edge-alive\" or list=\"edge-wan-site\" or list=\"edge-wan-phone\" or list=\"edge-lte-site\" or list=\"edge-lte-phone\")]] = 0) do={\
    \n  :local edgePort \"\"\
    \n  :if ([:len [/ip route find where comment~\"^edgeagent:native-lte-\" and active=yes]] > 0) do={ :set edgePort \"ether10\" }\
    \n  :if ([:len [/ip route find where comment~\"^edgeagent:native-wan-\" and active=yes]] > 0) do={ :set edgePort \"ether1\" }\
    \n  :local edgeGood \"\"\
    \n  :if (\$edgePort != \"\") do={\
    \n    :foreach edgeRow in=[/ip address find where interface=\$edgePort and disabled=no] do={\
    \n      :local edgeText [/ip address get \$edgeRow address]\
    \n      :set edgeGood (\$edgeGood . \"|\" . [:pick \$edgeText 0 [:find \$edgeText \"/\"]])\
    \n    }\
    \n  }\
    \n  :if (\$edgeGood != \"\") do={\
    \n    :set edgeGood (\"^(\" . [:pick \$edgeGood 1 [:len \$edgeGood]] . \")(:|\\\$)\")\
    \n    :foreach edgeRow in=[/ip firewall connection find where connection-mark~\"^edge-(wan|lte)\\\$\" and !(reply-dst-address~\$edgeGood)] do={\
    \n      :do { /ip firewall connection remove \$edgeRow } on-error={ }\
    \n    }\
    \n  }\
    \n}"
} on-error={ :put "edgeagent: no job could be made; import netwatch.rsc of this model, or allow scheduler in device-mode" }

# Settings of the owner's that are adopted. Note what they were: remove.rsc knows only the factory's:
/ip firewall connection tracking set udp-timeout=3m
/ip firewall connection tracking set udp-stream-timeout=3m
/ip firewall service-port set [find where name=sip] disabled=yes
:if ([:tostr [/ip neighbor discovery-settings get discover-interface-list]] ~ "^(all|static|!dynamic)\$") do={ /ip neighbor discovery-settings set discover-interface-list=!edge-backups }
:foreach edgeRow in=[/ip dhcp-client find where interface=ether1] do={
  :local edgeOwners [:tostr [/ip dhcp-client get $edgeRow script]]
  :if ([:len $edgeOwners] > 0) do={ :set edgeOwners ($edgeOwners . "\n") }
  /ip dhcp-client set $edgeRow script=($edgeOwners . "# edgeagent: from here\
    \n:if (\$bound = 1) do={\
    \n  :local edgeGate [:tostr \$\"gateway-address\"]\
    \n  :foreach edgeRow in=[/ip route find where comment~\"^edgeagent:(default-edge-wan\\\$|canary-)\"] do={\
    \n    :if ([:tostr [/ip route get \$edgeRow gateway]] != \$edgeGate) do={\
    \n      /ip route set \$edgeRow gateway=\$edgeGate\
    \n    }\
    \n  }\
    \n}\
    \n# edgeagent: to here")
}

# The places are not needed any more:
/ip firewall mangle remove [find where comment="edgeagent:here"]
/ip firewall filter remove [find where comment="edgeagent:here"]
/ip firewall nat remove [find where comment="edgeagent:here"]
/ip route rule remove [find where comment="edgeagent:here"]
/ipv6 firewall filter remove [find where comment="edgeagent:here"]

# What the DHCP clients have been told already:
:foreach edgeClient in=[/ip dhcp-client find where interface=ether1 and status="bound"] do={
  :local bound 1
  :local "gateway-address" [/ip dhcp-client get $edgeClient gateway]
  :local edgeText [:tostr [/ip dhcp-client get $edgeClient address]]
  :local "lease-address" [:pick $edgeText 0 [:find $edgeText "/"]]
  :if ($bound = 1) do={
    :local edgeGate [:tostr $"gateway-address"]
    :foreach edgeRow in=[/ip route find where comment~"^edgeagent:(default-edge-wan\$|canary-)"] do={
      :if ([:tostr [/ip route get $edgeRow gateway]] != $edgeGate) do={
        /ip route set $edgeRow gateway=$edgeGate
      }
    }
  }
}
:foreach edgeClient in=[/ip dhcp-client find where interface=ether10 and status="bound"] do={
  :local bound 1
  :local "gateway-address" [/ip dhcp-client get $edgeClient gateway]
  :local edgeText [:tostr [/ip dhcp-client get $edgeClient address]]
  :local "lease-address" [:pick $edgeText 0 [:find $edgeText "/"]]
  :if ($bound = 1) do={
    :local edgeGate [:tostr $"gateway-address"]
    :foreach edgeRow in=[/ip route find where comment~"^edgeagent:(default-edge-lte\$|native-lte-)"] do={
      :if ([:tostr [/ip route get $edgeRow gateway]] != $edgeGate) do={
        /ip route set $edgeRow gateway=$edgeGate
      }
    }
    :local edgeOwn ([:tostr $"lease-address"] . "/32")
    :foreach edgeRow in=[/ip route rule find where comment="edgeagent:own-lte"] do={
      :if ([:tostr [/ip route rule get $edgeRow src-address]] != $edgeOwn) do={
        /ip route rule set $edgeRow src-address=$edgeOwn
      }
    }
  }
}

# Flows that were fasttracked or unmarked before the rules stood would go on as before:
:foreach edgeFlow in=[/ip firewall connection find] do={
  :do {
    :local edgeText [:tostr [/ip firewall connection get $edgeFlow dst-address]]
    :local edgeEnd [:find $edgeText ":"]
    :if ([:typeof $edgeEnd] = "num") do={ :set edgeText [:pick $edgeText 0 $edgeEnd] }
    :local edgeTo [:toip $edgeText]
    :if (($edgeTo in 203.0.113.0/27)) do={ /ip firewall connection remove $edgeFlow }
  } on-error={ }
}
