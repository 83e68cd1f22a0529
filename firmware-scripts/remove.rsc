# Takes away all that edgeagent put into a router, both versions. Stop the agent first.
# edgeagent provision --remove does the same, and knows what the adopted settings were.
# A script cannot know what the adopted settings were. These get the value that a factory-new router has:
# the UDP timers, the SIP helper, discovery, and of the backups' ports bridge membership and PoE-out.
# Change them again where the owner had others. All else of the owner's stays as it is.
# Upload it and give: /import file-name=remove.rsc

# First what moves phones by itself:
/system scheduler remove [find where comment~"^edgeagent:"]
/tool netwatch remove [find where comment~"^edgeagent:"]

# Then all else, in the reverse of the order in which it was made:
/queue simple remove [find where comment~"^edgeagent:"]
:if (([/system resource get version] ~ "^7") or ([:len [/system package find where name="ipv6" and !disabled]] > 0)) do={ :local edgeDo [:parse "/ipv6 firewall filter remove [find where comment~\"^edgeagent:\"]"]; $edgeDo }
:if (([/system resource get version] ~ "^7") or ([:len [/system package find where name="ipv6" and !disabled]] > 0)) do={ :local edgeDo [:parse "/ipv6 firewall address-list remove [find where comment~\"^edgeagent:\"]"]; $edgeDo }
/ip firewall nat remove [find where comment~"^edgeagent:"]
/ip firewall mangle remove [find where comment~"^edgeagent:"]
:if ([/system resource get version] ~ "^7") do={ :local edgeDo [:parse "/routing rule remove [find where comment~\"^edgeagent:\"]"]; $edgeDo }
:if ([/system resource get version] ~ "^6") do={ :local edgeDo [:parse "/ip route rule remove [find where comment~\"^edgeagent:\"]"]; $edgeDo }
# Routes so that voice is never on the backup meanwhile:
/ip route remove [find where comment~"^edgeagent:" and !(comment~"^edgeagent:(native-wan-|canary-)")]
/ip route remove [find where comment~"^edgeagent:native-wan-"]
/ip route remove [find where comment~"^edgeagent:canary-"]
/ip address remove [find where comment~"^edgeagent:"]
/ip firewall address-list remove [find where comment~"^edgeagent:" and dynamic=no]
/ip dhcp-client remove [find where comment~"^edgeagent:"]
/ip firewall filter remove [find where comment~"^edgeagent:"]

# What the rules, or an agent, have put into our lists for a time:
:foreach edgeRow in=[/ip firewall address-list find where list~"^(edge-alive|edge-phones|edge-drill|edge-[a-z0-9]+-(site|phone))\$" and dynamic=yes] do={
  :do { /ip firewall address-list remove $edgeRow } on-error={ }
}

# Adopted settings, while it is still known which ports were the backups':
:foreach edgeList in=[/interface list find where comment~"^edgeagent:"] do={
  /ip firewall connection tracking set udp-timeout=10s
  /ip firewall connection tracking set udp-stream-timeout=3m
  /ip firewall service-port set [find where name=sip] disabled=no
  :if ([:tostr [/ip neighbor discovery-settings get discover-interface-list]] = "!edge-backups") do={ /ip neighbor discovery-settings set discover-interface-list=static }
}
:foreach edgeRow in=[/interface list member find where list=edge-backups] do={
  :local edgePort [/interface list member get $edgeRow interface]
  /interface bridge port set [find where interface=$edgePort and disabled=yes] disabled=no
  :do { :local edgeDo [:parse ("/interface ethernet set [find where name=\"" . $edgePort . "\" and poe-out=off] poe-out=auto-on")]; $edgeDo } on-error={ }
}
:foreach edgeRow in=[/ip dhcp-client find where script~"# edgeagent: from here" and script~"# edgeagent: to here"] do={
  :local edgeText [/ip dhcp-client get $edgeRow script]
  :local edgeFrom [:find $edgeText "# edgeagent: from here"]
  :local edgeTo ([:find $edgeText "# edgeagent: to here"] + 20)
  :local edgeAfter [:pick $edgeText $edgeTo [:len $edgeText]]
  :if ($edgeFrom > 0) do={ :set edgeFrom ($edgeFrom - 1) }
  /ip dhcp-client set $edgeRow script=([:pick $edgeText 0 $edgeFrom] . $edgeAfter)
}

# What the others stood on:
/interface list member remove [find where comment~"^edgeagent:"]
/interface list remove [find where comment~"^edgeagent:"]
/interface bridge remove [find where comment~"^edgeagent:"]
:if ([/system resource get version] ~ "^7") do={ :local edgeDo [:parse "/routing table remove [find where comment~\"^edgeagent:\"]"]; $edgeDo }
