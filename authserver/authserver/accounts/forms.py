"""The forms around signing in. What may be is decided by the rules."""

from django import forms

from authserver.accounts.models import check_identifier
from authserver.accounts.passwords import LONGEST, SHORTEST, check_password_form


class LoginForm(forms.Form):
    login = forms.CharField(label="Name or e-mail address", max_length=1000)
    password = forms.CharField(max_length=5000, strip=False, widget=forms.PasswordInput)


class ResetForm(forms.Form):
    login = forms.CharField(
        label="Name or e-mail address",
        max_length=1000,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


def password_field(label: str, help_text: str = "") -> forms.CharField:
    return forms.CharField(
        label=label,
        help_text=help_text,
        max_length=5000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class NewPasswordForm(forms.Form):
    password = password_field(
        "Password", f"At least {SHORTEST} characters; at most {LONGEST} bytes."
    )
    again = password_field("Password, once more")

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        check_password_form(password)
        return password

    def clean_again(self) -> str:
        again: str = self.cleaned_data["again"]
        if "password" in self.cleaned_data and self.cleaned_data["password"] != again:
            raise forms.ValidationError("The two passwords differ: type this one again.")
        return again


class SetupForm(NewPasswordForm):
    identifier = forms.CharField(
        label="Name to sign in with",
        max_length=150,
        validators=[check_identifier],
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    fullname = forms.CharField(
        label="Full name",
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    field_order = ("identifier", "fullname", "password", "again")
