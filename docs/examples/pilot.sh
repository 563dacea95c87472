#!/usr/bin/env bash
# A pilot in shell: pilot.sh SERVER QUEUE WORK_DIR, with grpcurl, jq and coreutils. docs/writing-a-pilot.md explains its steps.
# Environment: PROTOS (directory of the contracts), GRPCURL_FLAGS (default: -plaintext), BEARER_TOKEN, NODE, IDLE_SECONDS.
set -euo pipefail && shopt -s inherit_errexit
server=$1 queue=$2 && mkdir -p "$3" && cd "$3"
trap 'touch drain' TERM INT
keep() { [ -z "$2" ] || { echo "$2" >"$1.$BASHPID" && mv "$1.$BASHPID" "$1"; }; }
sum() { sha256sum <"$1" | cut -c1-64; }
rpc() { # METHOD SECONDS HEADER REQUEST
    grpcurl ${GRPCURL_FLAGS--plaintext} -import-path "$PROTOS" -proto pandawn/dispatcher/v1/dispatcher.proto \
        -max-time "$2" -H "$3" -d "$4" "$server" "pandawn.dispatcher.v1.Dispatcher/$1" 2>>grpcurl.log
}
register() { # the same request_id gives the same pilot; where that has ended (NOT_FOUND), another one a new pilot
    local reply status=0 && [ -s request_id ] || cat /proc/sys/kernel/random/uuid >request_id
    reply=$(rpc RegisterPilot 15 "authorization: ${BEARER_TOKEN:+Bearer $BEARER_TOKEN}" "$(jq -nc --arg requestId "$(cat request_id)" \
        --arg queue "$queue" --arg node "${NODE:-$(uname -n)}" --arg nodeKey "$(sum /proc/sys/kernel/random/boot_id)" \
        '{$requestId, $queue, $node, $nodeKey, pilotVersion: "pilot.sh", transports: ["file"]}')") || status=$?
    if [ $status = 69 ]; then rm request_id && register; elif [ $status != 0 ]; then return $status; fi
    keep registration "$reply" && keep session "$(jq -r '.sessionToken // ""' <<<"$reply")"
}
call() { # METHOD SECONDS REQUEST: prints the reply; what passes is tried again, with the same request
    while local reply status=0; do
        reply=$(rpc "$1" "$2" "pandawn-session: $(cat session)" \
            "$(jq -c --slurpfile at registration '{pilotId: $at[0].pilotId} + .' <<<"$3")") || status=$?
        case $status in # of grpcurl: 64 and the status code, or 1 without a connection
            0) keep session "$(jq -r '.sessionToken // ""' <<<"$reply")" && echo "$reply" && return ;;
            1 | 68 | 72 | 78) sleep $((1 + RANDOM % 3)) ;; # DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE
            69 | 80) register || sleep 2 ;;                # NOT_FOUND, UNAUTHENTICATED: the pilot or its session is over
            *) return $status ;;
        esac
    done
}
beat() ( # renews the lease, one process at a time; fails when the job must stop, with the reason in ./verdict
    flock 9 && call RenewLeases 10 "$(jq -c --arg phase "$(cat phase)" '{renewals: [{lease: ., $phase}]}' lease)" >beat || exit
    [ "$(jq .drain beat)" != true ] || touch drain
    jq -r '.results[0] | if .status.code then "STALE" elif .command == "JOB_COMMAND_CANCEL" then "CANCELLED" else "" end' beat >verdict
    keep pause "$(jq -s 'map(.heartbeatInterval, .results[0].leaseDuration | values | rtrimstr("s") | tonumber) | min / 4' registration beat)"
    [ -z "$(cat verdict)" ]
) 9>beat.lock
beats() { while sleep "$(cat pause)" && beat; do :; done; kill -TERM -- "-$1" && sleep 5 && kill -KILL -- "-$1"; }
fail() { # REASON CODE TEXT [COMPONENT]: ends the steps of a job
    jq -nc '$ARGS.positional as [$reason, $code, $text, $of] | {component: "ERROR_COMPONENT_\($of // "PILOT")",
        code: $code | tonumber, $reason, text: $text[:500]}' --args "$@" >error && exit 1
}
path_of() { [[ $1 == file:///* ]] || fail NO_TRANSPORT 1133 "no way to $1"; local at=${1#file://}; printf '%b' "${at//%/\\x}"; }
unpack() { tar -xzf "$1" --no-same-owner -C job || fail BAD_ARCHIVE 1110 "the $1 does not unpack"; }
stage_in() { # the user's code, then the task's library, then the inputs
    if [ -n "$sandbox" ]; then
        rpc DownloadSandbox 600 "pandawn-session: $(cat session)" "{\"sandboxId\": \"$sandbox\"}" | jq -r .chunk |
            while read -r chunk; do base64 -d <<<"$chunk"; done >sandbox || fail SANDBOX_FAILED 1246 "cannot fetch the sandbox"
        [ "$(sum sandbox)" = "$sandbox" ] && unpack sandbox || fail SANDBOX_FAILED 1246 "the sandbox is another"
    fi
    while read -r input; do
        eval "$(jq -r '.file as $f | @sh "url=\(.url) library=\(.library // false) name=\($f.lfn | split("/")[-1])
            size=\($f.sizeBytes // 0) version=\($f.version // "") checksum=\($f.checksum // "")"' <<<"$input")"
        from=$(path_of "$url") number=$((${number:-0} + 1)) to=library
        ! grep -qxFe "$name" names || name=${number}_$name
        $library || { echo "$name" >>names && to=job/$name; }
        [ -e "$from" ] || fail INPUT_MISSING 1103 "$from is not there"
        { rm -f "$to" && cp "$from" "$to" && chmod a-w "$to"; } || fail STAGE_IN_FAILED 1099 "cannot copy $from"
        [ "$(stat -c %s "$to")" = "$size" ] || fail INPUT_CHANGED 1175 "$from has another size"
        [[ $version != mtime:* || $version == "mtime:$(stat -c %.9Y/%i "$from")@"* ]] || fail INPUT_CHANGED 1175 "$from is newer"
        [[ $checksum != sha256:* || $checksum == "sha256:$(sum "$to")" ]] || fail INPUT_CHECKSUM_MISMATCH 1171 "$from is another"
        ! $library || { unpack library && number=$((number - 1)); }
    done < <(jq -c '.inputs // [] | sort_by(.library != true)[]' job.json)
}
payload() {
    local status=0 command
    command=$(jq -r --arg at "$PWD" --rawfile names names --slurpfile lease lease --slurpfile pilot registration '
        . as $job | ($names | split("\n")[:-1]) as $in | {LANG: "C.UTF-8", PATH: env.PATH}
        + ($pilot[0].queue.parameters.environment.values // {}) + {HOME: "\($at)/job", TMPDIR: "\($at)/tmp"} + (.environment // {}) + {
        PANDAWN_JOB_ID: .jobId, PANDAWN_TASK_ID: .taskId, PANDAWN_JOB_INDEX: .index, PANDAWN_ATTEMPT: $lease[0].attempt,
        PANDAWN_WORK_DIR: "\($at)/job", PANDAWN_INPUTS_FILE: "\($at)/names"} | to_entries | map("\(.key)=\(.value)") as $variables
        | [$job.command // ["true"] | .[] | if . == "%IN" then $in[] else gsub("%IN"; $in | join(",")) end] as $words
        | $variables + ["timeout", "--foreground", "-k5", $job.limits.maxWallTime // "0"] + $words | @sh' job.json)
    keep phase PHASE_PAYLOAD && beat
    (cd job && eval "exec env -i $command") >stdout 2>stderr || status=$?; echo $status >exit_code
    [ $status != 124 ] || fail WALL_TIME_EXCEEDED 1150 "the payload ran for too long"
    [ $status = 0 ] || fail PAYLOAD_FAILED 1305 "the payload ended with status $status" PAYLOAD
}
store() { # SOURCE OUTPUT CHECK: a file gets its name when it is complete and CHECK agrees; prints the StoredFile
    local to && to=$(path_of "$(jq -r .url <<<"$2")")
    { mkdir -p "${to%/*}" && cp "$1" "$to.$$.part" && sync "$to.$$.part" && $3 && mv "$to.$$.part" "$to"; } ||
        { rm -f "$to.$$.part" && fail STAGE_OUT_FAILED 1137 "cannot store $to"; }
    jq -c --arg size "$(stat -c %s "$1")" --arg sum "sha256:$(sum "$1")" '{url, file: {lfn, sizeBytes: $size, checksum: $sum}}' <<<"$2"
}
stage_out() { # a build has one output: all that is in the work directory by now
    keep phase PHASE_STAGE_OUT && while read -r output; do
        name=job/$(jq -r .name <<<"$output")
        [ $kind != JOB_KIND_BUILD ] || { name=packed && tar -C job --sort=name --mtime=@0 -czf packed .; }
        [ -f "$name" ] || fail OUTPUT_MISSING 1165 "the payload did not write $name" PAYLOAD
        store "$name" "$output" beat >>outputs
    done < <(jq -c '.outputs[]?' job.json)
}
run() { # the lease in ./lease, the job in ./job.json
    local log=null && rm -rf job tmp && mkdir job tmp && for file in names outputs ended error verdict exit_code stdout stderr; do : >$file; done
    eval "$(jq -r '@sh "sandbox=\(.sandboxId // "") kind=\(.kind)"' job.json)"
    keep phase PHASE_STAGE_IN && beat || return 0 # the first lease is short: it is confirmed at once, or lost
    set -m # the job and all that it starts are a group of processes, which ends with it
    (stage_in; payload; stage_out; echo all >ended) & local job=$!; beats $job 2>>beats.log & set +m
    while kill -0 $job 2>/dev/null; do wait $job || true; done # a signal to the pilot ends a wait early
    kill -KILL -- -$! -$job 2>/dev/null || true
    case $(cat verdict) in STALE) return 0 ;; CANCELLED) (fail CANCELLED 1144 "the server has cancelled it") || true ;; esac
    [ -s ended ] || [ -s error ] || (fail PILOT_ERROR 1112 "a step of the job ended without a word") || true
    tar -czf log.tar.gz job.json stdout stderr && log=$(store log.tar.gz "$(jq -c .log job.json)" true) || log=null
    call ReportJobs 30 "$(jq -c --slurpfile outputs outputs --slurpfile error error --slurpfile exit exit_code --argjson log "$log" \
        '{reports: [{lease: ., $outputs, $log, exitCode: $exit[0], error: $error[0],
         outcome: (if $error[0] then "OUTCOME_FAILED" else "OUTCOME_FINISHED" end)} | with_entries(select(.value != null))]}' lease)" || true
}
register; idle=$SECONDS
while [ ! -e drain ] && [ $((SECONDS - idle)) -le "${IDLE_SECONDS:-600}" ]; do
    reply=$(call AcquireJobs 40 "$(jq -nc --arg requestId "$(cat /proc/sys/kernel/random/uuid)" --arg disk "$(stat -f -c '%a * %S' .)" \
        '{$requestId, maxJobs: 1, wait: "20s", offer: {diskBytes: ($disk | split(" * ") | map(tonumber) | .[0] * .[1])}}')")
    [ "$(jq .drain <<<"$reply")" != true ] || touch drain
    if [ "$(jq '.leases | length' <<<"$reply")" = 0 ]; then sleep "$(jq -r '.retryAfter // "1s"' <<<"$reply")" && continue; fi
    jq '.leases[0].job' <<<"$reply" >job.json
    jq -c '.leases[0] | {jobId: .job.jobId, attempt, leaseToken}' <<<"$reply" >lease
    if [ -e drain ]; then call ReleaseJobs 5 "$(jq -c '{leases: [.]}' lease)"; else run; idle=$SECONDS; fi
done
call DeregisterPilot 5 '{"reason": "idle, or told to end"}'
