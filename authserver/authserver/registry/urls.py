"""Tokens for Docker registries."""

from django.urls import path

from authserver.registry import views

urlpatterns = [path("docker/token/", views.token, name="docker-token")]
