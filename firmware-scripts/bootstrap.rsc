# The agent's access to a router, for an installer whose agent cannot log in over SSH. RouterOS 6.49 and 7.12 or later.
# Makes a group with the policies api, read, write and test, a user of it for the agent's address alone, a certificate,
# and opens api-ssl with it to the agent's address alone. Nothing else is changed.
#
# 1. Put the password and the two addresses into the three lines below. The file then holds a secret: upload it to the
#    router, and delete it here.
# 2. Give: /import file-name=bootstrap.rsc    It deletes itself from the router once all is done.
# 3. Copy cert_export_edgeagent.crt from the router to the agent, to where router.certificate of site.toml says; the
#    password into the file of router.password_file. Then: edgeagent provision --plan
# To undo it: /user remove edgeagent; /user group remove edgeagent; /certificate remove edgeagent;
# /ip service set [find where name="api-ssl"] certificate=none disabled=yes
# (RouterOS 7.19 and later: [find where name="api-ssl" and dynamic=no], for there each connection is a row too)

# One block, so that nothing is done where something is wrong:
:if (true) do={
  :local edgePassword "PUT THE PASSWORD HERE"
  :local edgeAgent "192.168.88.2"
  :local edgeRouter "192.168.88.1"

  :if ($edgePassword = "PUT THE PASSWORD HERE") do={ :error "edgeagent: put a password into the script first; nothing was changed" }
  :if ([:len $edgePassword] < 16) do={ :error "edgeagent: the password is shorter than 16 characters; nothing was changed" }
  :if (!([/system resource get version] ~ "^(6\\.49|7\\.(1[2-9]|[2-9][0-9]))")) do={ :error "edgeagent: RouterOS is neither 6.49 nor 7.12 or later; nothing was changed" }
  :if ([:len [/user find where name="edgeagent"]] > 0) do={ :error "edgeagent: the user edgeagent is there already; nothing was changed" }
  :if ([:len [/user group find where name="edgeagent"]] > 0) do={ :error "edgeagent: the group edgeagent is there already; nothing was changed" }
  :if ([:len [/certificate find where name="edgeagent"]] > 0) do={ :error "edgeagent: the certificate edgeagent is there already; nothing was changed" }
  # From 7.19 on each connection to a service is a row of its name too; only there rows are told apart by "dynamic".
  :local edgeService [/ip service find where name="api-ssl"]
  :if ([:len $edgeService] > 1) do={ :set edgeService [/ip service find where name="api-ssl" and dynamic=no] }
  :foreach edgeRow in=$edgeService do={ :if (([/ip service get $edgeRow disabled] = false) and ([:tostr [/ip service get $edgeRow certificate]] != "none")) do={ :error "edgeagent: api-ssl is in use already; nothing was changed" } }

  # The certificate first: until all else is done nobody can log in with it.
  /certificate add name=edgeagent common-name=$edgeRouter key-size=2048 days-valid=7300 key-usage=digital-signature,key-encipherment,tls-server
  /certificate sign edgeagent
  /user group add name=edgeagent policy=api,read,write,test
  /user add name=edgeagent group=edgeagent address=$edgeAgent password=$edgePassword comment="edgeagent:access"
  /ip service set $edgeService certificate=edgeagent address=$edgeAgent disabled=no
  /certificate export-certificate edgeagent
  /file remove [find where name~"bootstrap.rsc\$"]
  :put "edgeagent: done; copy cert_export_edgeagent.crt to the agent"
}
