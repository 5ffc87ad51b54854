"""The forms of the self-service pages. What may be is decided by the rules of accounts."""

from django import forms

from authserver.accounts.passwords import LONGEST, SHORTEST


class PasswordForm(forms.Form):
    current = forms.CharField(
        label="Current password",
        max_length=5000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    new = forms.CharField(
        label="New password",
        help_text=f"At least {SHORTEST} characters; at most {LONGEST} bytes.",
        max_length=5000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    again = forms.CharField(
        label="New password, once more",
        max_length=5000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean_again(self) -> str:
        again: str = self.cleaned_data["again"]
        if "new" in self.cleaned_data and self.cleaned_data["new"] != again:
            raise forms.ValidationError("The two new passwords differ: type the new one again.")
        return again


class ServiceUserForm(forms.Form):
    description = forms.CharField(
        label="For which device or program?",
        help_text="As “Thunderbird on the laptop”. You will know it by this later.",
        max_length=200,
    )
    username = forms.CharField(
        label="Name to sign in with",
        help_text="What the device uses as its user name.",
        max_length=150,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
