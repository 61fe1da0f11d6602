#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""qemu-proxy.py RULES QEMU ARGUMENT...: a QEMU whose QMP goes wrong.

Stands in for QEMU as far as the daemon can tell: it listens on the sockets that it inherits, holds
the lock on the pid file, and when it is killed QEMU dies as well.  What goes through its first QMP
socket is passed on, unless the file RULES has a line "COMMAND HOW [TIMES]" for the command: HOW is
"error" (it is refused), "garbage" (the answer is no QMP), "silence" (there is none), "close" (the
connection ends), "die" (QEMU does), or "lacks:NAME" (NAME is left out of the list that is the
answer).  The file is read anew for each command.  All commands are appended to RULES.log, a line
each.
"""
import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

used = {}


def rule_for(path, command):
    with open(path, encoding="ascii") as rules:
        for line in rules:
            words = line.split()
            if words[:1] != [command]:
                continue
            used[line] = used.get(line, 0) + 1
            if len(words) < 3 or used[line] <= int(words[2]):
                return words[1]
    return "pass"


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def break_it(how, client, message):
    """Returns whether the connection goes on."""
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "error":
        answer = {"error": {"class": "GenericError", "desc": "it was made to fail"}}
        if "id" in message:
            answer["id"] = message["id"]
        client.sendall(json.dumps(answer).encode() + b"\r\n")
    elif how == "garbage":
        client.sendall(b"220 mail.example.org ESMTP\r\n")
    elif how == "close":
        client.shutdown(socket.SHUT_RDWR)
    return how != "close"


def leave_out(line, names):
    """Returns an answer without what NAMES says that it is to lack."""
    answer = json.loads(line)
    name = names.pop(answer.get("id"), None)
    if name is None:
        return line
    answer["return"] = [entry for entry in answer["return"]
                        if name not in (entry.get("name"), entry.get("capability"))]
    return json.dumps(answer).encode() + b"\r\n"


def copy_answers(server, client, names):
    for line in server.makefile("rb"):
        try:
            client.sendall(leave_out(line, names) if names else line)
        except OSError:
            break


def commands(client):
    """Yields each line with the descriptors that have come with it, or before it."""
    data, fds = b"", []
    while True:
        more, new, _, _ = socket.recv_fds(client, 65536, 1)
        if not more:
            return
        fds += new
        *lines, data = (data + more).split(b"\n")
        for line in lines:
            yield line + b"\n", fds
            while fds:
                os.close(fds.pop())


def serve(client, server, rules):
    names = {}
    threading.Thread(target=copy_answers, args=(server, client, names), daemon=True).start()
    try:  # reading fails when the daemon hangs up without having read everything
        for line, fds in commands(client):
            with open(rules + ".log", "ab") as log:
                log.write(line)
            message = json.loads(line)
            how = rule_for(rules, message.get("execute", message.get("exec-oob")))
            if how.startswith("lacks:"):
                names[message.get("id")] = how[len("lacks:"):]
                how = "pass"
            if how == "pass":
                sent = socket.send_fds(server, [line], fds)
                server.sendall(line[sent:])
            elif not break_it(how, client, message):
                break
    finally:  # QEMU greets one client at a time
        server.shutdown(socket.SHUT_RDWR)


def connect(path):
    """QEMU makes the socket's file before it listens."""
    while True:
        try:
            server = socket.socket(socket.AF_UNIX)
            server.connect(path)
            return server
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.01)


def end_with(child):
    child.wait()
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    rules, qemu, *args = sys.argv[1:]
    if "-pidfile" not in args:
        os.execvp(qemu, [qemu] + args)
    at = args.index("-pidfile")
    pidfile = os.open(args[at + 1], os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.lockf(pidfile, fcntl.LOCK_EX)
    os.write(pidfile, b"%d\n" % os.getpid())
    del args[at:at + 2]
    chardev = next(i for i, arg in enumerate(args) if arg.startswith("socket,id=qmp,"))
    listener = socket.socket(fileno=int(re.search(r"fd=(\d+)", args[chardev]).group(1)))
    folder = tempfile.mkdtemp(dir=os.path.dirname(rules))
    args[chardev] = f"socket,id=qmp,path={folder}/qmp,server=on,wait=off"
    child = subprocess.Popen([qemu] + args, close_fds=False, preexec_fn=die_with_parent)
    threading.Thread(target=end_with, args=(child,), daemon=True).start()
    while True:
        client = listener.accept()[0]
        try:
            serve(client, connect(f"{folder}/qmp"), rules)
        except OSError:
            pass
        client.close()


main()
