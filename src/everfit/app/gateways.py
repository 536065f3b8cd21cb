"""Which gateway stands before the models: the one that `EVERFIT_GATEWAY` names.

Takes the setting; gives our own folders, or a gateway beside them; never imports a library of one that was not chosen.
"""

from __future__ import annotations

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.outside import OutsideGateway, Remote, read_can
from everfit.adapters.published import Published
from everfit.errors import UsageError
from everfit.ports import Can, check_can
from everfit.rollout.options import Rolling
from everfit.rollout.stages import MirrorStep, WeightStep
from everfit.settings import Settings

CHOICES = (
    "leave it unset for the built-in gateway, or write kserve://NAMESPACE?..., sagemaker://ENDPOINT?..., "
    "command:PROGRAM ARGUMENTS or https://HOST/PATH (docs/gateways.md)"
)


def gateway_for(settings: Settings, told: Published | None = None) -> FolderGateway | OutsideGateway:
    """The gateway that the settings name; the built-in one for none. `told` goes beside each model that is published.

    Raises:
        UsageError: the setting names no gateway that there is, lacks something, or its extra is not installed.
    """
    near = FolderGateway(settings.serving)
    if not settings.gateway:
        return near
    return OutsideGateway(FolderGateway(settings.state / "outside"), near, _remote(settings), told)


def check_suited(rolling: Rolling, can: frozenset[Can]) -> None:
    """Hold the spec's roll-out to what the gateway can do, before any release is planned.

    >>> check_suited(Rolling(weights=("5%",)), frozenset({Can.SPLIT}))

    Raises:
        UsageError: the spec wants copies of requests, or shares of the traffic, and the gateway cannot.
    """
    steps = rolling.expanded()
    weights = [step.weight for step in steps if isinstance(step, WeightStep) and step.weight < 1]
    mirrors = [step.share for step in steps if isinstance(step, MirrorStep)]
    check_can(can, weight=max(weights, default=0.0), mirror=max(mirrors, default=0.0))


def _remote(settings: Settings) -> Remote:
    setting = settings.gateway
    scheme = setting.partition(":")[0]
    try:
        match scheme:
            case "kserve":
                from everfit.adapters.kserve import kserve_at

                return kserve_at(setting)
            case "sagemaker":
                from everfit.adapters.sagemaker import sagemaker_at

                return sagemaker_at(setting)
            case "command" | "http" | "https":
                from everfit.adapters.hooks import hook_at

                return hook_at(setting, read_can(settings.gateway_can), settings.gateway_secret)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"EVERFIT_GATEWAY={setting!r} needs the package {error.name}; pip install 'everfit[{scheme}]'"
        ) from error
    raise UsageError(f"EVERFIT_GATEWAY={setting!r} is no gateway that there is; {CHOICES}")
