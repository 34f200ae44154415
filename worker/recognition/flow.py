"""A conversation on its connection, moved on turn by turn. Never waits."""

from typing import Final

from worker.recognition.conversation import Conversation, Ping
from worker.recognition.errors import ConnectionLost, RecognitionError, UpstreamSilent
from worker.recognition.transport import Transport

BURST: Final = 8
"""Messages that one turn sends at most: a stream without a pace must not take the others' time."""

LAST_LOOKS: Final = 64
"""Looks at what a service that hung up has said before; each gives some kilobytes, or nothing, at no cost."""


class Flow:
    """Moves messages between one transport and one conversation, for as long as the conversation lasts."""

    def __init__(self, transport: Transport, conversation: Conversation) -> None:
        self.transport = transport
        self.conversation = conversation
        self.messages = 0  # sent and received
        self.blocked = False  # something is left to be sent, or TLS has to write in order to read

    def turn(self, now: float, readable: bool) -> bool:
        """Do what can be done now. True: there is more to do at once.

        Raises what ends the conversation; RecognitionError, or any fault of the code below.
        """
        conversation = self.conversation
        try:
            if readable:
                self._hear(now)
                if conversation.over or (conversation.due() > now and not self.blocked):
                    return False
            return self._speak(now)
        except RecognitionError as error:
            if conversation.over:  # the service ended the connection after the task
                return False
            if isinstance(error, (ConnectionLost, UpstreamSilent)):
                self._hear_last_words(now)
            if conversation.over:
                return False
            if isinstance(error, UpstreamSilent):  # or was it this process that stood still, and the answer is here?
                return self._speak(now)
            raise

    def _speak(self, now: float) -> bool:
        transport, conversation = self.transport, self.conversation
        if self.blocked:
            if not transport.flush():
                conversation.held(now)
                conversation.message(now)  # gives none, but its patience may be at its end
                return False
            self.blocked = False
            conversation.released(now)
        for _ in range(BURST):
            message = conversation.message(now)
            if message is None:
                return False
            if isinstance(message, Ping):
                taken = transport.ping()
            else:
                self.messages += 1
                taken = transport.send(message)
            if not taken:
                self.blocked = True
                conversation.held(now)
                return False
            if conversation.due() > now:
                return False
        return True

    def _hear_last_words(self, now: float) -> None:
        """A service that hangs up says why first. Its last sentences, a task-failed and the close frame are already
        here, and they are worth more than the broken pipe.
        """
        for _ in range(LAST_LOOKS):
            try:
                self._hear(now)
            except RecognitionError:
                if not self.conversation.over:
                    raise
                return

    def _hear(self, now: float) -> None:
        heard = 0
        for text in self.transport.receive():
            heard += 1
            self.conversation.hear(text, now)
        self.messages += heard
        if heard == 0 and self.transport.has_heard():
            self.conversation.heard = now
        self.blocked = self.blocked or self.transport.is_blocked()
