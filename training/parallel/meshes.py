"""The ranks as a mesh with names: data × pipeline × tensor; experts lie within data."""

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from training.parallel.declared import Parallel
from training.parallel.place import Place

REPLICA, EXPERT, PIPELINE, TENSOR = "replica", "expert", "pipeline", "tensor"
DATA = "data"


class Meshes:
    """The mesh of a run, as one rank sees it.

    Ranks of one tensor group are neighbours, since they talk most; data is the outermost. Where
    experts are dealt out, data is itself ``replica`` × ``expert``: the ranks of one expert group
    hold all experts between them.

    Raises:
        DefinitionError: the number of ranks does not fit.
    """

    def __init__(self, place: Place, parallel: Parallel) -> None:
        self.place = place
        self.data_ranks = parallel.data_ranks(place.ranks)
        self.tensor_ranks, self.pipeline_ranks = parallel.tensor, parallel.pipeline
        self.expert_ranks = parallel.expert
        self.share = place.rank // (parallel.tensor * parallel.pipeline)
        self._meshes: dict[str, DeviceMesh] = {}
        if place.ranks > 1:
            self._meshes = _meshes(place.device.type, self.data_ranks, parallel)

    def __getitem__(self, name: str) -> DeviceMesh:
        """Return the mesh of one dimension: this rank's group in it."""
        if name not in self._meshes:
            raise KeyError(f"this run's mesh has no dimension {name}")
        return self._meshes[name]


def _meshes(device: str, data_ranks: int, parallel: Parallel) -> dict[str, DeviceMesh]:
    if parallel.expert == 1:
        names = DATA, PIPELINE, TENSOR
        shape = (data_ranks, parallel.pipeline, parallel.tensor)
        mesh = init_device_mesh(device, shape, mesh_dim_names=names)
        return {name: mesh[name] for name in names}
    mesh = init_device_mesh(
        device,
        (data_ranks // parallel.expert, parallel.expert, parallel.pipeline, parallel.tensor),
        mesh_dim_names=(REPLICA, EXPERT, PIPELINE, TENSOR),
    )
    data = mesh[REPLICA, EXPERT]._flatten(DATA)
    return {DATA: data, **{name: mesh[name] for name in (REPLICA, EXPERT, PIPELINE, TENSOR)}}
