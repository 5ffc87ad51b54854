# ugos-password-validation-policy, an expression policy of authentik (2025.10 to 2026.8): logs
# in the accounts of a UGREEN NAS through ugos-auth-proxy, creates a user at the first login,
# and keeps attributes and groups as the NAS has them. Import
# authentik/authentik-blueprint.yaml, which holds it, or paste it as it is. It is asked at two
# places of one flow: as validation policy of the password prompt, and negated on the deny stage
# behind it.
VERSION = "0.2.0"

# Settings. An environment variable of the same name in authentik's containers, server and
# worker, goes before the value here, and stays when a newer policy is imported over this one.
UGOS_AUTH_PROXY_URL = "http://ugos-auth-proxy:8080"
UGOS_AUTH_PROXY_TOKEN = ""  # the AUTH_TOKEN of ugos-auth-proxy
UGOS_AUTH_PROXY_CA = ""  # path, in authentik's containers, of a private certificate to trust
# NAME@home.arpa (RFC 8375) for users whose account has no e-mail; "" for none
DEFAULT_EMAIL_DOMAIN = "home.arpa"
# NAS group: authentik group; JSON in the environment
GROUP_MAP = {"admin": "admins", "family": "family"}
UGOS_USERS_GROUP = "UGOS Users"  # every NAS user is a member; "" for none
USER_PATH = "users/ugos"  # folder of new users in authentik's directory
# True: users that are not the NAS's log in here too, with their authentik password
ALLOW_LOCAL_USERS = False
ALLOW_SUPERUSER_GROUPS = False  # True: groups of GROUP_MAP may give superuser rights or roles

def take_password() -> object:
    """The typed password, taken out of all that authentik stores: plan and session's copies."""
    typed = request.context.get("prompt_data")
    found = typed.get("password") if isinstance(typed, dict) else None
    plans = [
        plan,
        session.get("authentik/flows/plan"),
        *session.get("authentik/flows/history", []),
    ]
    for stored in [request.context, *(each.context for each in plans if each is not None)]:
        if isinstance(stored.get("prompt_data"), dict):
            stored["prompt_data"].pop("password", None)
    session.update({})  # tells Django that it has changed
    return found

try:
    session = http_request.session
    plan = request.context.get("flow_plan") or session["authentik/flows/plan"]
    typed, stored = request.context.get("prompt_data"), plan.context.get("prompt_data")
    at_prompt = typed != stored  # else at the deny stage
    password = take_password()

    import json
    import os
    import re
    import secrets
    import socket
    import threading
    import unicodedata
    from traceback import walk_tb
    from types import SimpleNamespace
    from typing import Any

    # `requests` is a session of authentik's, which may log what it sends
    import requests as http
    from authentik.core.models import Group, User
    from authentik.core.signals import login_failed
    from django.contrib.auth.hashers import make_password
    from django.db import IntegrityError, transaction
    from requests.adapters import HTTPAdapter
except BaseException as exc:
    ak_logger.error(
        "ugos-auth-proxy: this authentik, or its flow, is not one that it knows: "
        f"{type(exc).__name__}"
    )
    ak_message("The NAS cannot be reached. Try again later.")
    return False

# In the plan's context: the primary key of the user whose password was right, for the guard,
# and whether the prompt has asked for the password that the deny stage will find.
MARK = "ugos_auth_proxy_user"
ASKED = "ugos_auth_proxy_asked"
ANSWER_SECONDS, ANSWER_BYTES = 5, 65536

INVALID = "Invalid credentials"
NOT_LINKED = "the user is authentik's, not the NAS's: the attribute ugos_user: true links it"
UNREACHABLE = "The NAS cannot be reached. Try again later."
REFUSALS = {
    INVALID: INVALID,
    "Password expired": "Your NAS password has expired. Change it in UGOS.",
    "Account expired": "Your NAS account has expired.",
}

class Refused(Exception):
    """A verdict on the user: the message to show, and the reason, for the log."""

    def __init__(self, reason: str, message: str = INVALID) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message

class Fault(Exception):
    """No verdict. Its text is for the log: it never holds what was typed, sent or received."""

def read_settings() -> SimpleNamespace:
    """The settings, the environment's first. Raises Fault where one is malformed."""
    settings = SimpleNamespace()
    for name, kind, value in (
        ("UGOS_AUTH_PROXY_URL", "text", UGOS_AUTH_PROXY_URL),
        ("UGOS_AUTH_PROXY_TOKEN", "text", UGOS_AUTH_PROXY_TOKEN),
        ("UGOS_AUTH_PROXY_CA", "text", UGOS_AUTH_PROXY_CA),
        ("DEFAULT_EMAIL_DOMAIN", "text", DEFAULT_EMAIL_DOMAIN),
        ("GROUP_MAP", "a JSON object", GROUP_MAP),
        ("UGOS_USERS_GROUP", "text", UGOS_USERS_GROUP),
        ("USER_PATH", "text", USER_PATH),
        ("ALLOW_LOCAL_USERS", "true or false", ALLOW_LOCAL_USERS),
        ("ALLOW_SUPERUSER_GROUPS", "true or false", ALLOW_SUPERUSER_GROUPS),
    ):
        found: object = os.environ.get(name) or value
        if kind != "text" and isinstance(found, str):
            try:
                found = json.loads(found.lower() if kind == "true or false" else found)
            except ValueError:
                found = None
        if not isinstance(
            found, {"text": str, "a JSON object": dict, "true or false": bool}[kind]
        ):
            raise Fault(f"{name} must be {kind}")
        setattr(settings, name, found)
    if not all(isinstance(group, str) for pair in settings.GROUP_MAP.items() for group in pair):
        raise Fault("GROUP_MAP must map names to names")
    if not settings.UGOS_AUTH_PROXY_URL.startswith(("http://", "https://")):
        raise Fault("UGOS_AUTH_PROXY_URL must begin with http:// or https://")
    return settings

def ask(method: str, path: str, **content: Any) -> tuple[int, str, dict[str, object]]:
    """One request to the proxy: status, Retry-After and the JSON object. Raises Fault.

    The thread is there because a time-out of requests starts again at every byte, and name
    resolution has none: at the deadline its connection is cut, wherever it hangs.
    """
    connections: list[socket.socket] = []
    expired = threading.Event()
    result: list[tuple[int, str, dict[str, object]]] = []
    trouble = [f"no whole answer within {ANSWER_SECONDS} seconds"]

    class Session(http.Session):
        def get_redirect_target(self, resp: http.Response) -> None:
            """None is followed; else one's body is read whole, whatever allow_redirects
            says."""

    class Adapter(HTTPAdapter):
        def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
            pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
            connect = pool.ConnectionCls._new_conn

            def connect_and_remember(self: object) -> socket.socket:
                connection: socket.socket = connect(self)
                connections.append(connection.dup())  # TLS takes the first over
                if expired.is_set():
                    connection.close()
                    connections[-1].close()
                return connection

            pool.ConnectionCls = type(
                "Connection", (pool.ConnectionCls,), {"_new_conn": connect_and_remember}
            )
            return pool

    headers = {"X-Forwarded-For": str(ak_client_ip), "Accept-Encoding": "identity"}
    headers["User-Agent"] = f"ugos-auth-proxy-policy/{VERSION}"
    if settings.UGOS_AUTH_PROXY_TOKEN:
        headers["Authorization"] = f"Bearer {settings.UGOS_AUTH_PROXY_TOKEN}"

    def run() -> None:
        try:
            with Session() as session:
                # no proxy that would see passwords, no .netrc in place of the token
                session.trust_env = False
                for scheme in ("http://", "https://"):
                    session.mount(scheme, Adapter())
                response = session.request(
                    method,
                    settings.UGOS_AUTH_PROXY_URL.rstrip("/") + path,
                    headers=headers,
                    timeout=ANSWER_SECONDS,
                    allow_redirects=False,
                    stream=True,
                    verify=settings.UGOS_AUTH_PROXY_CA or True,
                    **content,
                )
                head = sum(len(name) + len(value) for name, value in response.headers.items())
                body = b""
                # the last read sees an end that was cut
                while part := response.raw.read(ANSWER_BYTES, decode_content=False):
                    body += part
                    if head + len(body) > ANSWER_BYTES:
                        trouble[0] = f"an answer of more than {ANSWER_BYTES} bytes"
                        return
                answer = json.loads(body)
                if isinstance(answer, dict):
                    result.append(
                        (response.status_code, response.headers.get("Retry-After", ""), answer)
                    )
                else:
                    trouble[0] = f"status {response.status_code}, not a JSON object"
        except Exception as exc:
            # the names say what is wrong, and the texts may hold the token
            names: list[str] = []
            cause: BaseException | None = exc
            while cause is not None and len(names) < 9:
                names.append(type(cause).__name__)
                reason = getattr(cause, "reason", None)  # urllib3 wraps so
                cause = (
                    reason
                    if isinstance(reason, Exception)
                    else cause.__cause__ or cause.__context__
                )
            trouble[0] = " < ".join(names)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    answered, reason = not thread.is_alive(), trouble[0]  # what the cut leads to is no reason
    expired.set()
    for connection in connections:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended already
        connection.close()
    if not answered or not result:
        address = re.sub("//.*@", "//", settings.UGOS_AUTH_PROXY_URL)  # without its user info
        raise Fault(f"{path} at {address}: {reason}")
    return result[0]

def validate(name: str, password: str) -> str:
    """The account's name as the NAS has it. Raises Refused, or Fault."""
    status, retry_after, answer = ask(
        "POST", "/validate", json={"username": name, "password": password}
    )
    nas_name = answer.get("username")
    if status == 200 and answer.get("valid") is True and isinstance(nas_name, str):
        return nas_name
    if status == 200 and answer.get("valid") is False:
        error = str(answer.get("error"))
        raise Refused(
            f"the NAS says {error if error in REFUSALS else 'no'}", REFUSALS.get(error, INVALID)
        )
    if status == 429:
        seconds = int(retry_after) if re.fullmatch("[0-9]{1,6}", retry_after) else 300
        minutes = max(1, -(-seconds // 60))
        raise Refused(
            "too many failed logins", f"Too many failed logins. Try again in {minutes} minutes."
        )
    if status in {400, 413}:  # no account can have such a name, or such a password
        raise Refused(f"the proxy answers {status}")
    raise Fault(
        f"/validate: status {status}" + (": set UGOS_AUTH_PROXY_TOKEN" if status == 401 else "")
    )

def user_info(name: str) -> SimpleNamespace:
    """The account: uid, gid, full_name, email, home, groups. Raises Refused, or Fault.

    A service that does not say whether it is active is believed all the same.
    """
    status, _, answer = ask("GET", "/user-info", params={"username": name})
    if status == 200 and answer.get("exists") is False:
        raise Refused("the account is gone")
    groups, active = answer.get("groups"), answer.get("active", True)
    if not (
        status == 200
        and answer.get("exists") is True
        and answer.get("username") == name
        and all(type(answer.get(key)) is int for key in ("uid", "gid"))
        and all(isinstance(answer.get(key), str) for key in ("full_name", "email", "home"))
        and isinstance(groups, list)
        and all(isinstance(group, str) for group in groups)
        and isinstance(active, bool)
    ):
        raise Fault(f"/user-info: status {status}, not an account")
    if not active:
        raise Refused("the NAS account is locked or has expired")
    return SimpleNamespace(**answer)

def akadmin_objection(name: str) -> str | None:
    """An objection to the name of authentik's first administrator, in any case and spelling.

    Who makes that user's password unusable, or creates the user, opens /if/flow/initial-setup/
    to everybody.
    """
    letters = unicodedata.normalize("NFKD", name).casefold()
    letters = letters.replace("\u0131", "i")  # PostgreSQL takes it for an i
    plain = "".join(
        letter for letter in letters if unicodedata.category(letter)[0] not in "CMZ"
    )
    return "akadmin does not log in here" if plain == "akadmin" else None

def find(name: str) -> User | None:
    """The user of that name, or else one whose name differs from it only in case."""
    users = list(User.objects.filter(username__iexact=name)[:20])
    return next((user for user in users if user.username == name), users[0] if users else None)

def objection(user: User) -> str | None:
    """Why no password of the NAS opens this user's account, if so."""
    if not user.is_active:
        return "the user is inactive"
    if user.attributes.get("ugos_user") is not True:
        return akadmin_objection(user.username) or NOT_LINKED
    return akadmin_objection(user.username)

def create(name: str, account: SimpleNamespace) -> User:
    """The new user of a NAS account, without groups, or the one of a login that was faster."""
    fallback = (
        f"{name}@{settings.DEFAULT_EMAIL_DOMAIN}" if settings.DEFAULT_EMAIL_DOMAIN else ""
    )
    email = ""
    for address in (account.email, fallback):
        if address and not email:
            # applications link accounts by it
            if User.objects.filter(email__iexact=address).exists():
                warn(
                    f"another user has the e-mail address {address!r}: {name!r} does not get it"
                )
            else:
                email = address
    words = " ".join(word[:1].upper() + word[1:] for word in re.split(r"[\s._-]+", name))
    user = User(
        username=name,
        name=account.full_name
        if account.full_name not in {"", name}
        else words.strip() or name,
        email=email,
        path=settings.USER_PATH,
        attributes={"ugos_user": True, "auto_provisioned": True},
    )
    user.set_unusable_password()
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError:
        present = find(name)
        if present is None:
            raise
        return present
    return user

def gives_rights(group: Group) -> bool:
    """Whether members of the group are superusers or have a role, by itself or by an
    ancestor."""
    rows = Group.objects.filter(pk=group.pk)
    ancestors = getattr(rows, "with_ancestors", None)
    ancestors = ancestors or getattr(rows, "with_children_recursive", None)  # 2025.10
    return ancestors is None or any(
        row.is_superuser or row.roles.exists() for row in ancestors()
    )

def follow(user: User, account: SimpleNamespace) -> None:
    """Gives the user the attributes and groups of its account, and takes its authentik
    password."""
    attributes = {
        **user.attributes,
        "ugos_user": True,
        "ugos_uid": account.uid,
        "ugos_gid": account.gid,
        "ugos_groups": account.groups,
        "ugos_home": account.home,
    }
    second_door = user.has_usable_password()
    if attributes != user.attributes or second_door:
        user.attributes = attributes
        if second_door:
            user.set_unusable_password()
        user.save(update_fields=["attributes", "password"])
    wanted = dict.fromkeys(settings.GROUP_MAP.values(), False)
    wanted.update(
        {name: True for group, name in settings.GROUP_MAP.items() if group in account.groups}
    )
    if settings.UGOS_USERS_GROUP:
        wanted[settings.UGOS_USERS_GROUP] = True
    for name, belongs in wanted.items():
        groups = list(Group.objects.filter(name=name))  # 2025.10: the name alone is not unique
        if belongs and not groups:
            warn(f"there is no group {name!r} for {user.username!r} to join")
        for group in groups:
            member = group.users.filter(pk=user.pk).exists()
            if member and not belongs:
                group.users.remove(user)
            elif (
                belongs
                and not member
                and not settings.ALLOW_SUPERUSER_GROUPS
                and gives_rights(group)
            ):
                warn(
                    f"the group {name!r} gives superuser rights or a role: "
                    f"{user.username!r} does not join it"
                )
            elif belongs and not member:
                group.users.add(user)

def log_in(pending: User, password: object) -> User:
    """The user whose password this is. Raises Refused, or Fault."""
    user = (
        find(pending.username.strip())
        if pending.pk is None
        else User.objects.filter(pk=pending.pk).first()
    )
    if user is None and pending.pk is not None:
        raise Refused("the user has been deleted")
    if not isinstance(password, str) or not password:
        raise Refused("no password was typed")
    name = user.username if user else pending.username.strip()
    # User.username's length; what follows would take minutes for a long one
    if len(name) > 150:
        raise Refused("no user has so long a name")
    reason = objection(user) if user else akadmin_objection(name)
    if settings.ALLOW_LOCAL_USERS:
        if reason == NOT_LINKED and user and user.check_password(password):
            return user
        if reason != NOT_LINKED:
            make_password(password)  # takes as long as to check one
    if reason:
        warn(f"{name!r}: {reason}")
        # the NAS never sees this password, and the refusal takes as long: the size matters to
        # the proxy
        other = secrets.token_urlsafe().ljust(len(json.dumps(password)) - 2, "x")
        try:
            validate(name, other)
        except Fault as fault:
            raise Refused(f"{reason}; {fault}", UNREACHABLE) from None
        raise Refused(reason)
    nas_name = validate(name, password)
    if nas_name != name and (user or nas_name.casefold() != name.casefold()):
        raise Refused("the NAS answers for another name, or spells it otherwise")
    account = user_info(nas_name)
    with transaction.atomic():
        user = user or find(nas_name) or create(nas_name, account)
        user = User.objects.select_for_update().get(pk=user.pk)
        uid = user.attributes.get("ugos_uid")
        reason = objection(user)
        if user.username != nas_name:
            reason = (
                f"the NAS spells the user {user.username!r} as {nas_name!r}: rename one of them"
            )
        elif uid is not None and str(uid) != str(account.uid):
            reason = f"uid {account.uid} is another account than uid {uid} was: "
            reason += "remove ugos_uid to link it anew"
        if reason:
            raise Refused(reason)
        follow(user, account)
    return user

def warn(text: str) -> None:
    ak_logger.warning(f"ugos-auth-proxy: {text}")

def decide() -> bool:
    """Whether the pending user's password is right; if so, user and mark stand in the plan."""
    pending = plan.context.get("pending_user")
    mark, asked = plan.context.pop(MARK, None), plan.context.pop(ASKED, False)
    if pending is None:
        raise Fault("no user has been identified")
    if not at_prompt and mark is not None and mark == pending.pk and (asked or not password):
        plan.context[MARK] = mark
        return True
    try:
        user = log_in(pending, password)
    except Refused as refused:
        warn(f"{pending.username!r} from {ak_client_ip} is refused: {refused.reason}")
        ak_message(refused.message)
        failed = {
            "credentials": {"username": pending.username},
            "request": http_request,
            "stage": None,
        }
        try:  # authentik's event log and reputation listen
            login_failed.send(sender="ugos-auth-proxy", **failed)
        except Exception as exc:
            warn(f"login_failed: {type(exc).__name__}")
        return False
    plan.context.update(
        {"pending_user": user, "auth_method": "password", ASKED: at_prompt, MARK: user.pk}
    )
    return True

try:
    settings = read_settings()
    passed = decide()
except BaseException as exc:  # whatever it is: nobody comes in, and its text is shown to nobody
    plan.context.pop(MARK, None)
    policy = decide.__code__.co_filename
    lines = [
        line - 1
        for frame, line in walk_tb(exc.__traceback__)
        if frame.f_code.co_filename == policy
    ]
    reason = str(exc) if isinstance(exc, Fault) else f"{type(exc).__name__} in line {lines[-1]}"
    ak_logger.error(f"ugos-auth-proxy: no verdict: {reason}")
    ak_message(UNREACHABLE)
    passed = False
return passed
