# The flush of the native fallback for MikroTik hAP ac2, both versions.
# For a router whose device-mode forbids jobs by the clock; it takes the place of the job edge-flush.
# Netwatch grants a script the policies read, write, test and reboot; this one needs read and write.

# Nothing is changed unless the version is right and nothing of ours is there:
:if ([:len [/ip route find where comment~"^edgeagent:"]] = 0) do={ :error "edgeagent: the rows that this belongs to are not there; nothing was changed" }
:if ([:len [/tool netwatch find where comment~"^edgeagent:"]] > 0) do={ :error "edgeagent: rows of edgeagent are there already: remove.rsc first. Nothing was changed" }

/system scheduler remove [find where comment~"^edgeagent:"]
/tool netwatch add comment="edgeagent:flush-192.168.88.2" host=192.168.88.2 interval=10s \
    up-script=":for edgeRound from=1 to=10 do={\
    \n  :if ([:len [/ip firewall address-list find where dynamic=yes and (list=\"edge-alive\" or list=\"edge-wan-site\" or list=\"edge-wan-phone\" or list=\"edge-lte-site\" or list=\"edge-lte-phone\")]] = 0) do={\
    \n    :local edgePort \"\"\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-lte-\" and active=yes]] > 0) do={ :set edgePort \"ether5\" }\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-wan-\" and active=yes]] > 0) do={ :set edgePort \"ether1\" }\
    \n    :local edgeGood \"\"\
    \n    :if (\$edgePort != \"\") do={\
    \n      :foreach edgeRow in=[/ip address find where interface=\$edgePort and disabled=no] do={\
    \n        :local edgeText [/ip address get \$edgeRow address]\
    \n        :set edgeGood (\$edgeGood . \"|\" . [:pick \$edgeText 0 [:find \$edgeText \"/\"]])\
    \n      }\
    \n    }\
    \n    :if (\$edgeGood != \"\") do={\
    \n      :set edgeGood (\"^(\" . [:pick \$edgeGood 1 [:len \$edgeGood]] . \")(:|\\\$)\")\
    \n      :foreach edgeRow in=[/ip firewall connection find where connection-mark~\"^edge-(wan|lte)\\\$\" and !(reply-dst-address~\$edgeGood)] do={\
    \n        :do { /ip firewall connection remove \$edgeRow } on-error={ }\
    \n      }\
    \n    }\
    \n  }\
    \n  :delay 10s\
    \n}" down-script=":for edgeRound from=1 to=10 do={\
    \n  :if ([:len [/ip firewall address-list find where dynamic=yes and (list=\"edge-alive\" or list=\"edge-wan-site\" or list=\"edge-wan-phone\" or list=\"edge-lte-site\" or list=\"edge-lte-phone\")]] = 0) do={\
    \n    :local edgePort \"\"\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-lte-\" and active=yes]] > 0) do={ :set edgePort \"ether5\" }\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-wan-\" and active=yes]] > 0) do={ :set edgePort \"ether1\" }\
    \n    :local edgeGood \"\"\
    \n    :if (\$edgePort != \"\") do={\
    \n      :foreach edgeRow in=[/ip address find where interface=\$edgePort and disabled=no] do={\
    \n        :local edgeText [/ip address get \$edgeRow address]\
    \n        :set edgeGood (\$edgeGood . \"|\" . [:pick \$edgeText 0 [:find \$edgeText \"/\"]])\
    \n      }\
    \n    }\
    \n    :if (\$edgeGood != \"\") do={\
    \n      :set edgeGood (\"^(\" . [:pick \$edgeGood 1 [:len \$edgeGood]] . \")(:|\\\$)\")\
    \n      :foreach edgeRow in=[/ip firewall connection find where connection-mark~\"^edge-(wan|lte)\\\$\" and !(reply-dst-address~\$edgeGood)] do={\
    \n        :do { /ip firewall connection remove \$edgeRow } on-error={ }\
    \n      }\
    \n    }\
    \n  }\
    \n  :delay 10s\
    \n}"
/tool netwatch add comment="edgeagent:flush-203.0.113.129" host=203.0.113.129 interval=10s \
    up-script=":for edgeRound from=1 to=10 do={\
    \n  :if ([:len [/ip firewall address-list find where dynamic=yes and (list=\"edge-alive\" or list=\"edge-wan-site\" or list=\"edge-wan-phone\" or list=\"edge-lte-site\" or list=\"edge-lte-phone\")]] = 0) do={\
    \n    :local edgePort \"\"\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-lte-\" and active=yes]] > 0) do={ :set edgePort \"ether5\" }\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-wan-\" and active=yes]] > 0) do={ :set edgePort \"ether1\" }\
    \n    :local edgeGood \"\"\
    \n    :if (\$edgePort != \"\") do={\
    \n      :foreach edgeRow in=[/ip address find where interface=\$edgePort and disabled=no] do={\
    \n        :local edgeText [/ip address get \$edgeRow address]\
    \n        :set edgeGood (\$edgeGood . \"|\" . [:pick \$edgeText 0 [:find \$edgeText \"/\"]])\
    \n      }\
    \n    }\
    \n    :if (\$edgeGood != \"\") do={\
    \n      :set edgeGood (\"^(\" . [:pick \$edgeGood 1 [:len \$edgeGood]] . \")(:|\\\$)\")\
    \n      :foreach edgeRow in=[/ip firewall connection find where connection-mark~\"^edge-(wan|lte)\\\$\" and !(reply-dst-address~\$edgeGood)] do={\
    \n        :do { /ip firewall connection remove \$edgeRow } on-error={ }\
    \n      }\
    \n    }\
    \n  }\
    \n  :delay 10s\
    \n}" down-script=":for edgeRound from=1 to=10 do={\
    \n  :if ([:len [/ip firewall address-list find where dynamic=yes and (list=\"edge-alive\" or list=\"edge-wan-site\" or list=\"edge-wan-phone\" or list=\"edge-lte-site\" or list=\"edge-lte-phone\")]] = 0) do={\
    \n    :local edgePort \"\"\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-lte-\" and active=yes]] > 0) do={ :set edgePort \"ether5\" }\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-wan-\" and active=yes]] > 0) do={ :set edgePort \"ether1\" }\
    \n    :local edgeGood \"\"\
    \n    :if (\$edgePort != \"\") do={\
    \n      :foreach edgeRow in=[/ip address find where interface=\$edgePort and disabled=no] do={\
    \n        :local edgeText [/ip address get \$edgeRow address]\
    \n        :set edgeGood (\$edgeGood . \"|\" . [:pick \$edgeText 0 [:find \$edgeText \"/\"]])\
    \n      }\
    \n    }\
    \n    :if (\$edgeGood != \"\") do={\
    \n      :set edgeGood (\"^(\" . [:pick \$edgeGood 1 [:len \$edgeGood]] . \")(:|\\\$)\")\
    \n      :foreach edgeRow in=[/ip firewall connection find where connection-mark~\"^edge-(wan|lte)\\\$\" and !(reply-dst-address~\$edgeGood)] do={\
    \n        :do { /ip firewall connection remove \$edgeRow } on-error={ }\
    \n      }\
    \n    }\
    \n  }\
    \n  :delay 10s\
    \n}"
/tool netwatch add comment="edgeagent:flush-203.0.113.130" host=203.0.113.130 interval=10s \
    up-script=":for edgeRound from=1 to=10 do={\
    \n  :if ([:len [/ip firewall address-list find where dynamic=yes and (list=\"edge-alive\" or list=\"edge-wan-site\" or list=\"edge-wan-phone\" or list=\"edge-lte-site\" or list=\"edge-lte-phone\")]] = 0) do={\
    \n    :local edgePort \"\"\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-lte-\" and active=yes]] > 0) do={ :set edgePort \"ether5\" }\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-wan-\" and active=yes]] > 0) do={ :set edgePort \"ether1\" }\
    \n    :local edgeGood \"\"\
    \n    :if (\$edgePort != \"\") do={\
    \n      :foreach edgeRow in=[/ip address find where interface=\$edgePort and disabled=no] do={\
    \n        :local edgeText [/ip address get \$edgeRow address]\
    \n        :set edgeGood (\$edgeGood . \"|\" . [:pick \$edgeText 0 [:find \$edgeText \"/\"]])\
    \n      }\
    \n    }\
    \n    :if (\$edgeGood != \"\") do={\
    \n      :set edgeGood (\"^(\" . [:pick \$edgeGood 1 [:len \$edgeGood]] . \")(:|\\\$)\")\
    \n      :foreach edgeRow in=[/ip firewall connection find where connection-mark~\"^edge-(wan|lte)\\\$\" and !(reply-dst-address~\$edgeGood)] do={\
    \n        :do { /ip firewall connection remove \$edgeRow } on-error={ }\
    \n      }\
    \n    }\
    \n  }\
    \n  :delay 10s\
    \n}" down-script=":for edgeRound from=1 to=10 do={\
    \n  :if ([:len [/ip firewall address-list find where dynamic=yes and (list=\"edge-alive\" or list=\"edge-wan-site\" or list=\"edge-wan-phone\" or list=\"edge-lte-site\" or list=\"edge-lte-phone\")]] = 0) do={\
    \n    :local edgePort \"\"\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-lte-\" and active=yes]] > 0) do={ :set edgePort \"ether5\" }\
    \n    :if ([:len [/ip route find where comment~\"^edgeagent:native-wan-\" and active=yes]] > 0) do={ :set edgePort \"ether1\" }\
    \n    :local edgeGood \"\"\
    \n    :if (\$edgePort != \"\") do={\
    \n      :foreach edgeRow in=[/ip address find where interface=\$edgePort and disabled=no] do={\
    \n        :local edgeText [/ip address get \$edgeRow address]\
    \n        :set edgeGood (\$edgeGood . \"|\" . [:pick \$edgeText 0 [:find \$edgeText \"/\"]])\
    \n      }\
    \n    }\
    \n    :if (\$edgeGood != \"\") do={\
    \n      :set edgeGood (\"^(\" . [:pick \$edgeGood 1 [:len \$edgeGood]] . \")(:|\\\$)\")\
    \n      :foreach edgeRow in=[/ip firewall connection find where connection-mark~\"^edge-(wan|lte)\\\$\" and !(reply-dst-address~\$edgeGood)] do={\
    \n        :do { /ip firewall connection remove \$edgeRow } on-error={ }\
    \n      }\
    \n    }\
    \n  }\
    \n  :delay 10s\
    \n}"
