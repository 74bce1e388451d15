from vedette.core.errors import AlreadyExists as AlreadyExists
from vedette.core.errors import Cancelled as Cancelled
from vedette.core.errors import CaptureFailed as CaptureFailed
from vedette.core.errors import Conflict as Conflict
from vedette.core.errors import DataLoss as DataLoss
from vedette.core.errors import DeadlineExceeded as DeadlineExceeded
from vedette.core.errors import Internal as Internal
from vedette.core.errors import InvalidArgument as InvalidArgument
from vedette.core.errors import ModelFailed as ModelFailed
from vedette.core.errors import NotFound as NotFound
from vedette.core.errors import Overloaded as Overloaded
from vedette.core.errors import PermissionDenied as PermissionDenied
from vedette.core.errors import TooLarge as TooLarge
from vedette.core.errors import Unauthenticated as Unauthenticated
from vedette.core.errors import Unavailable as Unavailable
from vedette.core.errors import Unimplemented as Unimplemented
from vedette.core.errors import VedetteError as VedetteError
from vedette.entities.monitors import AlertRule as AlertRule
from vedette.entities.monitors import CheckSettings as CheckSettings
from vedette.entities.monitors import Monitor as Monitor
from vedette.sdk.aio.client import AsyncClient as AsyncClient
from vedette.sdk.prediction import Prediction as Prediction
from vedette.sdk.sync.client import Client as Client

__version__: str
