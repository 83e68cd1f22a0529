# What the DHCP clients of both lines run when they are given another address or next hop.
# For RouterOS 7.12 or later. edgeagent provision puts it there, and so do the scripts in rendered/.
# This one puts it back where it was lost.

# Nothing is changed unless the version is right and nothing of ours is there:
:if (!([/system resource get version] ~ "^7\\.(1[2-9]|[2-9][0-9])")) do={ :error "edgeagent: this script is for RouterOS 7.12 or later; nothing was changed" }
:if ([:len [/ip route find where comment~"^edgeagent:"]] = 0) do={ :error "edgeagent: the rows that this belongs to are not there; nothing was changed" }

:foreach edgeRow in=[/ip dhcp-client find where interface=ether1 and !(script~"# edgeagent: from here")] do={
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
/ip dhcp-client set [find where comment="edgeagent:dhcp-lte"] script=":if (\$bound = 1) do={\
    \n  :local edgeGate [:tostr \$\"gateway-address\"]\
    \n  :foreach edgeRow in=[/ip route find where comment~\"^edgeagent:(default-edge-lte\\\$|native-lte-)\"] do={\
    \n    :if ([:tostr [/ip route get \$edgeRow gateway]] != \$edgeGate) do={\
    \n      /ip route set \$edgeRow gateway=\$edgeGate\
    \n    }\
    \n  }\
    \n  :local edgeOwn ([:tostr \$\"lease-address\"] . \"/32\")\
    \n  :foreach edgeRow in=[/routing rule find where comment=\"edgeagent:own-lte\"] do={\
    \n    :if ([:tostr [/routing rule get \$edgeRow src-address]] != \$edgeOwn) do={\
    \n      /routing rule set \$edgeRow src-address=\$edgeOwn\
    \n    }\
    \n  }\
    \n}"
