"""Sessions: fetches and feeds, and the steps that run them."""

from headrace.session.session import BaseSession as BaseSession
from headrace.session.session import InteractiveSession as InteractiveSession
from headrace.session.session import Session as Session
