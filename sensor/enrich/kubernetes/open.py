"""Opens the sensor's view of Kubernetes: settings in, a `Cluster` or None out.

The client's packages are loaded here and not before, so a plain host saves their 12 MB.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from common.settings import KubernetesUse
from sensor.core.config import SensorSettings

if TYPE_CHECKING:
    from sensor.enrich.kubernetes.cluster import Cluster

# Set in each container of a Pod (kubernetes pkg/kubelet/envvars).
_IN_A_POD: Final = "KUBERNETES_SERVICE_HOST"


def is_in_pod(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs in a container of Kubernetes."""
    return bool(environment.get(_IN_A_POD))


def open_cluster(settings: SensorSettings, environment: Mapping[str, str]) -> "Cluster | None":
    """The cluster as the settings say, not watched yet; None where there is none."""
    is_there = is_in_pod(environment) or settings.kubeconfig is not None
    if settings.kubernetes is KubernetesUse.OFF or (settings.kubernetes is KubernetesUse.AUTO and not is_there):
        return None
    from common.kubernetes.reflector import open_client
    from sensor.enrich.kubernetes.cluster import Cluster, ClusterSettings, SelectionRules

    return Cluster(
        ClusterSettings(
            node=settings.node,
            zone=settings.zone,
            label_keys=settings.pod_labels,
            rules=SelectionRules(
                excluded=settings.excluded_workloads,
                included=settings.included_workloads,
            ),
        ),
        open_client=partial(open_client, settings.kubeconfig),
    )
