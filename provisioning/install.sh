#!/usr/bin/env bash
# Puts edgeagent onto a Debian or Raspberry Pi OS machine, upgrades it, takes it off. See docs/install.md.
#
#   install.sh [--wheels DIR] [--ready SECONDS]   install, or upgrade what is there
#   install.sh --remove [--purge]                 take it off; with --purge settings, state and user too
#
# --wheels DIR: everything comes from that folder (made by `make wheels`), nothing from the network.
# --ready SECONDS: within which a new version must be ready, else the former one returns (60).
#
# A version lives in a folder of its own, /opt/edgeagent/VERSION; the link /opt/edgeagent/current says which one runs. An
# upgrade builds the new folder beside the old, lets the new version check site.toml and a copy of the store, and only then
# switches the link. Whatever fails from there on, the link and the former version come back.
set -euo pipefail
umask 022
trap '' PIPE # the terminal may be gone by the time that something has to be put back

OPT=/opt/edgeagent
CONF=/etc/edgeagent
STATE=/var/lib/edgeagent
UNITS=/etc/systemd/system
DISPATCHER=/etc/NetworkManager/dispatcher.d
COMMAND=/usr/local/bin/edgeagent
PYTHON=/usr/bin/python3 # not that of PATH: the service cannot see one below /home or /root
AGENT=edgeagent         # user and group
SERVICE=edgeagent.service
ADDRESSES=edgeagent-addresses.service
SHARE=/usr/local/share
BEFORE=$STATE/before-upgrade # the store, until the new version has shown that it works
FORMER=$OPT/.former          # as long: a link to the version to go back to, which outlasts a power cut
NEEDED_MIB=250               # a version takes about 110 MiB, and the old one stays
SETTLE_S=3
PAGES=(man/man1/edgeagent.1 bash-completion/completions/edgeagent.bash zsh/site-functions/_edgeagent) # below a share/

here=$(cd "$(dirname "$0")" && pwd)
wheels=
ready_s=60
verb=install
purge=no

# That nobody hears it changes nothing.
say() { echo "edgeagent: $*" 2> /dev/null || true; }
die() {
    say "$*" >&2
    exit 1
}

# --- what must be so ---------------------------------------------------------------------------------------------

check_root() {
    [ "$(id -u)" = 0 ] || die "this must be run as root. Try: sudo $0"
    exec 9> /run/edgeagent-install.lock
    flock -n 9 || die "another install.sh is running. Wait for it to end."
}

check_machine() {
    local id like architecture version
    id=$(sed -n 's/^ID="\?\([^"]*\).*/\1/p' /etc/os-release)
    like=$(sed -n 's/^ID_LIKE="\?\([^"]*\).*/\1/p' /etc/os-release)
    case " $id $like " in
        *" debian "* | *" raspbian "*) ;;
        *) die "this machine runs '$id'; expected Debian 12, Raspberry Pi OS 12 or later. Use one of these." ;;
    esac
    architecture=$(dpkg --print-architecture)
    case $architecture in
        amd64 | arm64) ;;
        *) die "this system is '$architecture'; expected amd64 or arm64. On a Pi 3 or later put the 64-bit Raspberry Pi OS." ;;
    esac
    [ -d /run/systemd/system ] || die "systemd does not run this machine. A container cannot carry the agent's units."
    version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 250 ] || die "systemd is version ${version:-unknown}; expected 250 or later (Debian 12 has 252)."
    [ -x "$PYTHON" ] || die "there is no $PYTHON. Try: apt install python3 python3-venv"
    "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
        die "$PYTHON is $("$PYTHON" --version); expected Python 3.11 to 3.13. Debian 12 and later have it."
    "$PYTHON" -c 'import venv, ensurepip' 2> /dev/null || die "Python's venv is missing. Try: apt install python3-venv"
    command -v ip > /dev/null || die "the ip command is missing. Try: apt install iproute2"
    [ -d /usr/share/zoneinfo ] || die "the time zones are missing. Try: apt install tzdata"
}

check_space() {
    local free
    free=$(free_mib "$OPT")
    [ "$free" -ge "$NEEDED_MIB" ] ||
        die "$free MiB are free for $OPT; expected $NEEDED_MIB. Free some. Try: apt clean; journalctl --vacuum-size=50M"
}

# Of the disk that holds the folder, or will.
free_mib() {
    local folder=$1
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    df --output=avail -BM "$folder" | tail -1 | tr -dc 0-9
}

# --- what is to be installed ----------------------------------------------------------------------------------------

# Sets wheel, hash, version, lock, target. A version built anew with other contents gets a folder with the wheel's hash.
find_wheel() {
    local folder
    for folder in "$wheels" "$here" "$here/../dist"; do
        [ -n "$folder" ] || continue
        wheel=$(find "$folder" -maxdepth 1 -name 'edgeagent-*-py3-none-any.whl' 2> /dev/null | sort -V | tail -1)
        [ -z "$wheel" ] || break
        [ -z "$wheels" ] || die "no edgeagent-*.whl in $wheels. It is the folder that \`make wheels\` fills."
    done
    [ -n "$wheel" ] || die "no edgeagent-*.whl beside this script. Make one with \`make wheels\`, or name its folder: --wheels DIR"
    lock=$here/requirements.txt
    [ -f "$lock" ] || lock=$here/../requirements.txt
    [ -f "$lock" ] || die "no requirements.txt beside this script: without it nothing that is downloaded can be verified."
    hash=$(sha256sum < "$wheel" | cut -d ' ' -f 1)
    if [ -f "${wheel%/*}/SHA256SUMS" ]; then
        grep -q "^$hash  ${wheel##*/}\$" "${wheel%/*}/SHA256SUMS" ||
            die "$wheel is not the one that SHA256SUMS beside it names. Fetch it again."
    fi
    version=${wheel##*/edgeagent-}
    version=${version%%-*}
    target=$OPT/$version
    if [ -f "$target/wheel.sha256" ] && [ "$(cat "$target/wheel.sha256")" != "$hash" ]; then
        target=$OPT/$version+${hash:0:8}
    fi
}

# Whether the version in the folder runs at all. After a release upgrade of Debian, with another Python, none does.
works() {
    [ -n "$1" ] && [ -x "$1/bin/edgeagent" ] && (cd / && "$1/bin/python" -I -c 'import edgeagent.cli.main') > /dev/null 2>&1
}

# A virtual environment of its own for the version. What carries no hash at its end was cut off; that and what does not
# run is built anew.
build() {
    local from=(--find-links "${wheel%/*}") wanted
    if [ -f "$target/wheel.sha256" ]; then
        ! works "$target" || return 0
        say "what is in $target does not run with $("$PYTHON" --version)"
    fi
    check_space
    say "building $target"
    mkdir -p "$OPT"
    rm -rf "$target"
    [ -z "$wheels" ] || from+=(--no-index)
    wanted=$(mktemp)
    sed '/^--/d' "$lock" > "$wanted" # options in it are those of the machine that locked it
    echo "$wheel --hash=sha256:$hash" >> "$wanted"
    if ! "$PYTHON" -m venv "$target" ||
        ! "$target/bin/pip" install --quiet --disable-pip-version-check --no-input "${from[@]}" \
            --only-binary :all: --no-deps --require-hashes -r "$wanted"; then
        rm -rf "$wanted" "$target"
        die "not installed; nothing that works was changed. Check the network, or bring the wheels along: --wheels DIR"
    fi
    rm -f "$wanted"
    echo "$hash" > "$target/wheel.sha256.new"
    sync -f "$target" # a power cut from here on finds it whole
    mv "$target/wheel.sha256.new" "$target/wheel.sha256"
}

# --- the machine's parts --------------------------------------------------------------------------------------------

make_user() {
    getent group "$AGENT" > /dev/null || groupadd --system "$AGENT"
    getent passwd "$AGENT" > /dev/null || useradd --system --gid "$AGENT" --home-dir "$STATE" --no-create-home \
        --shell /usr/sbin/nologin --comment "edgeagent" "$AGENT"
}

# The settings belong to root; the agent may read them, the passwords it gets from systemd.
make_folders() {
    local file
    install -d -m 0750 -o root -g "$AGENT" "$CONF"
    install -d -m 0700 -o "$AGENT" -g "$AGENT" "$STATE"
    install -m 0640 -o root -g "$AGENT" "$target/share/edgeagent/site.toml" "$CONF/site.toml.template"
    for file in "$CONF"/site.toml "$CONF"/*.pem; do
        [ ! -f "$file" ] || { chown "root:$AGENT" "$file" && chmod 0640 "$file"; }
    done
    for file in "$CONF"/*.password; do
        [ ! -f "$file" ] || { chown root:root "$file" && chmod 0600 "$file"; }
    done
    as_agent "$target/bin/edgeagent" identity --create --folder "$STATE" > /dev/null ||
        say "the agent works without its identity, but the provider's fleet will not know it."
}

# Whatever is done in the agent's own folder is done so: there root would follow a link that the agent has laid.
as_agent() { (cd / && runuser -u "$AGENT" -- "$@"); }

# A link, at no moment none. $1: to what, $2: the link.
put_link() {
    ln -sfn "$1" "${2%/*}/.${2##*/}.new"
    mv -T "${2%/*}/.${2##*/}.new" "$2"
}

# A copy, whole or not at all: on a full disk what was there stays. $1: mode, $2: file, $3: folder.
put_file() {
    local to=$3/${2##*/} draft=$3/.${2##*/}.new
    cmp -s "$2" "$to" || { install -m "$1" "$2" "$draft" && mv -T "$draft" "$to"; } || { rm -f "$draft" && false; }
}

# Atomically: at no moment is there no version. $1: the version's folder.
switch_to() {
    local share=$1/share/edgeagent page
    put_link "$1" "$OPT/current"
    put_file 0644 "$share/$SERVICE" "$UNITS"
    put_file 0644 "$share/$ADDRESSES" "$UNITS"
    if [ -d "$DISPATCHER" ]; then put_file 0755 "$share/50-edgeagent-addresses" "$DISPATCHER"; fi
    ln -sfn "$OPT/current/bin/edgeagent" "$COMMAND"
    for page in "${PAGES[@]}"; do
        mkdir -p "$SHARE/${page%/*}"
        ln -sfn "$OPT/current/share/$page" "$SHARE/$page"
    done
    systemctl daemon-reload
    systemctl --quiet enable "$SERVICE" "$ADDRESSES"
}

# Whether the service reports itself ready within its bound, and is still the same process a little later.
start_and_wait() {
    local end_s=$((SECONDS + ready_s)) pid
    systemctl reload-or-restart --no-block "$ADDRESSES"
    systemctl start --no-block "$SERVICE"
    until [ "$(systemctl is-active "$SERVICE")" = active ]; do
        [ "$SECONDS" -lt "$end_s" ] || return 1
        sleep 0.5
    done
    pid=$(systemctl show --property MainPID --value "$SERVICE")
    sleep "$SETTLE_S"
    [ "$(systemctl show --property MainPID --value "$SERVICE")" = "$pid" ]
}

# --- install and upgrade --------------------------------------------------------------------------------------------

former=     # the version that ran before, its folder
switched=no # yes from the former one's stop on until the new one has shown that it works

do_install() {
    local changed
    check_machine
    finish_cut_off
    find_wheel
    former=$(readlink "$OPT/current" || true)
    works "$former" || former=
    build
    make_user
    make_folders
    if [ ! -f "$CONF/site.toml" ]; then
        switch_to "$target"
        say "$version is installed. It starts once it knows its site:"
        say "  cp $CONF/site.toml.template $CONF/site.toml, edit it, write the mail password that it names, let the"
        say "  agent into the router (edgeagent provision --bootstrap), then run this again."
        return
    fi
    check_with_new
    if [ "$former" = "$target" ] && [ "$(systemctl is-active "$SERVICE")" = active ]; then
        changed=$(changed_since_start)
        if [ -z "$changed" ]; then
            say "$version is installed and runs: nothing to do."
            return
        fi
        say "changed since the agent was started: ${changed//$'\n'/, }. It is started anew."
    fi
    upgrade
    if [ "$former" != "$target" ]; then prune; fi
}

# What the running agent does not know: it reads its settings when it starts, and systemd hands it its passwords then.
changed_since_start() {
    local since
    since=$(systemctl show --property ExecMainStartTimestamp --value --timestamp=us+utc "$SERVICE")
    find "$CONF" -maxdepth 1 -type f \( -name site.toml -o -name '*.password' -o -name '*.pem' \) \
        -newermt "$since" -printf '%f\n' | sort
}

# An upgrade that a power cut ended: where the link is switched, the new version shows now that it works, or it goes back;
# where it was going back already, that is brought to its end.
finish_cut_off() {
    [ -L "$FORMER" ] || return 0
    former=$(readlink "$FORMER")
    target=$(readlink "$OPT/current" || true)
    version=${target##*/}
    if ! works "$former"; then
        rm -f "$FORMER" # nothing to go back to
    elif [ "$former" = "$target" ]; then
        version=cut-off
        go_back || true
        [ ! -L "$FORMER" ] || exit 1 # why was told; an upgrade would throw away the store that is kept
    else
        say "the upgrade to $version was cut off before it was seen to work; that is looked at now"
        switched=yes
        start_and_wait || die "$version was not ready in $ready_s s. See: journalctl -u $SERVICE"
        proven
    fi
}

# The new version itself says what it thinks of the settings and the store. Nothing has been switched yet.
check_with_new() {
    local code=0
    as_agent "$target/bin/edgeagent" check-config || code=$?
    [ "$code" = 0 ] || refuse "$version does not accept $CONF/site.toml. Correct what it named, then run this again."
    as_agent "$target/bin/edgeagent" check-store || code=$?
    case $code in
        0 | 1) ;; # damaged (1) is no reason: every version sets it aside and begins anew
        2) refuse "$version cannot use the store in $STATE. Install the version that wrote it, or a later one." ;;
        *) refuse "whether $version can use the store in $STATE could not be tried, as said above: it is the disk, of which" \
            "$(free_mib "$STATE") MiB are free. See to it, then run this again." ;;
    esac
}

refuse() {
    # Its folder stays for the next try; a later upgrade clears it away.
    die "$* ${former:+${former##*/} stays, nothing was switched.}"
}

upgrade() {
    # Without a former version, or where it is the same, there is nothing to go back to: this one is tried for ever.
    if [ -n "$former" ] && [ "$former" != "$target" ]; then switched=yes; fi
    if [ -e "$UNITS/$SERVICE" ]; then systemctl stop "$SERVICE"; fi # the leases in the router hold for 60 s
    keep_store
    if [ "$switched" = yes ]; then
        put_link "$former" "$FORMER"
        sync -f "$OPT"
    fi
    switch_to "$target"
    start_and_wait || die "$version was not ready in $ready_s s. See: journalctl -u $SERVICE"
    proven
}

proven() {
    switched=no
    rm -f "$FORMER"
    as_agent rm -rf "$BEFORE"
    if [ -n "$former" ] && [ "$former" != "$target" ]; then say "$version runs, after ${former##*/}."; else say "$version runs."; fi
}

# Called however the script ends. Between the former one's stop and the new one's proof, that means back.
at_end() {
    local code=$?
    [ "$switched" = yes ] || exit "$code"
    switched=no
    trap '' INT TERM HUP # going back is not broken off
    set +e
    go_back
    exit "$((code ? code : 1))"
}

go_back() {
    say "going back to ${former##*/}"
    systemctl stop "$SERVICE" # what is half done of a start or a stop ends first
    switch_to "$former"
    if [ "$target" != "$former" ]; then rm -rf "$target"; fi # the disk may be full
    if give_store_back; then rm -f "$FORMER"; fi
    start_and_wait || say "${former##*/} is not ready either. See: journalctl -u $SERVICE"
}

# Complete, or not there.
keep_store() {
    # shellcheck disable=SC2016 # it is the agent's shell that expands it
    as_agent sh -euc '
        rm -rf "$2" "$2.new"
        mkdir -m 0700 "$2.new"
        find "$1" -maxdepth 1 -name "store.db*" -type f -exec cp -a -t "$2.new" {} +
        sync -f "$2.new"
        mv -T "$2.new" "$2"
    ' keep_store "$STATE" "$BEFORE"
}

# What the new version wrote stays, unless the former one cannot read it (2). Then it is put aside, not thrown away.
# Fails where that could not be found out or done: then all is kept for the next run.
give_store_back() {
    local code=0 aside
    [ -d "$BEFORE" ] || return 0
    as_agent "$former/bin/edgeagent" check-store "$STATE/store.db" > /dev/null 2>&1 || code=$?
    [ -e "$STATE/store.db" ] || code=2 # cut off between putting aside and giving back
    if [ "$code" -gt 2 ]; then
        say "whether ${former##*/} can read the store could not be tried: see to the disk of $STATE ($(free_mib "$STATE") MiB" \
            "free), then run this again. Until then the store as it was before is kept in $BEFORE."
        return 1
    fi
    if [ "$code" = 2 ] && [ -f "$BEFORE/store.db" ]; then
        aside=$(exchange_store) || {
            say "the store as it was before could not be given back; it is kept in $BEFORE. See to the disk, then run this again."
            return 1
        }
        say "the store is as it was before${aside:+; what $version wrote is kept in $STATE/$aside}"
    fi
    as_agent rm -rf "$BEFORE"
}

# By renaming only, which needs no space; store.db itself last each time, so that a cut in between can be told. Says where
# the other one was put.
exchange_store() {
    # shellcheck disable=SC2016 # it is the agent's shell that expands it
    as_agent sh -euc '
        cd "$1"
        if [ -e store.db ]; then
            aside=$(mktemp -d "store-of-$3.XXXX")
            for file in store.db?* store.db; do
                [ ! -f "$file" ] || mv -f -t "$aside" "$file"
            done
            sync -f .
            echo "$aside"
        fi
        for file in "$2"/store.db?* "$2/store.db"; do
            [ ! -f "$file" ] || mv -f -t . "$file"
        done
        sync -f .
    ' exchange_store "$STATE" "$BEFORE" "$version"
}

# The version that runs and the one before it stay.
prune() {
    local folder
    for folder in "$OPT"/*/; do
        folder=${folder%/}
        case $folder in
            "$target" | "$former" | "$OPT/current") ;;
            *) rm -rf "$folder" ;;
        esac
    done
}

# --- remove ---------------------------------------------------------------------------------------------------------

do_remove() {
    local page
    systemctl --quiet disable --now "$SERVICE" "$ADDRESSES" 2> /dev/null || true
    rm -rf "${UNITS:?}/$SERVICE" "${UNITS:?}/$ADDRESSES" "$DISPATCHER/50-edgeagent-addresses" "$COMMAND" "$OPT"
    for page in "${PAGES[@]}"; do
        rm -f "${SHARE:?}/$page"
    done
    # Folders that nobody else has anything in. Debian itself has man/ there.
    rmdir "$SHARE"/{man/man1,bash-completion/{completions,},zsh/{site-functions,}} 2> /dev/null || true
    systemctl daemon-reload
    systemctl reset-failed "$SERVICE" "$ADDRESSES" 2> /dev/null || true
    if [ "$purge" = yes ]; then
        rm -rf "$CONF" "$STATE" "$UNITS/$SERVICE.d" "$UNITS/$ADDRESSES.d"
        if getent passwd "$AGENT" > /dev/null; then userdel "$AGENT"; fi
        if getent group "$AGENT" > /dev/null; then groupdel "$AGENT"; fi
        say "removed, with its settings and state."
    else
        say "removed. $CONF and $STATE stay, and the user they belong to; --remove --purge takes these too."
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
        --wheels)
            [ -d "${2:-}" ] || die "--wheels ${2:-}: there is no such folder; expected the one that \`make wheels\` filled"
            wheels=$(cd "$2" && pwd)
            shift
            ;;
        --ready)
            [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || die "--ready ${2:-}: expected whole seconds from 1 to 9999, such as 60"
            ready_s=$2
            shift
            ;;
        --remove) verb=remove ;;
        --purge) purge=yes ;;
        -h | --help)
            sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' "$0"
            exit 0
            ;;
        *) die "unknown option $1; see $0 --help" ;;
    esac
    shift
done
[ "$purge" = no ] || [ "$verb" = remove ] || die "--purge goes with --remove only"
check_root
trap at_end EXIT
trap 'exit 130' INT TERM HUP
if [ "$verb" = remove ]; then do_remove; else do_install; fi
