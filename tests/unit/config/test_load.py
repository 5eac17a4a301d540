"""The stack configuration: what is accepted, and the words for every mistake."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from infra.config import ExternalRegistry, SecretReference
from infra.load import load
from infra.plan import ImagePlan, ModelReference, StackPlan
from infra.problems import ConfigurationError

SCRIPT = "def init():\n    pass\n\ndef run(data):\n    return data\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder with a model, an entry script and a sample request."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "score.py").write_text(SCRIPT)
    (tmp_path / "model.pkl").write_bytes(b"weights")
    (tmp_path / "sample.json").write_text("{}")
    return tmp_path


def configuration() -> dict[str, Any]:
    """A good configuration for `project`, to be spoilt by a test."""
    return {
        "workspace": {"name": "demo", "tags": {"team": "vision"}},
        "registry": {"tier": "Basic"},
        "computeTargets": {"laptop": {"kind": "local"}},
        "environments": {"sklearn": {"clone": "minimal", "pip": ["scikit-learn"]}},
        "models": {"digits": {"path": "model.pkl"}},
        "services": {
            "mnist": {
                "models": ["digits"],
                "inference": {"entryScript": "score.py", "sourceDirectory": "src", "environment": "sklearn"},
                "computeTarget": "laptop",
                "deployment": {"port": 8890},
                "sampleRequest": "sample.json",
            }
        },
    }


def loaded(project: Path, sections: dict[str, Any], secrets: tuple[str, ...] = ()) -> StackPlan:
    raw = {f"slipway:{key}": json.dumps(value) for key, value in sections.items()}
    return load(raw, secrets, project, "dev")


def mistakes(project: Path, sections: dict[str, Any], secrets: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(project, sections, secrets)
    return [str(problem) for problem in caught.value.problems]


def spoilt(path: str, value: Any) -> dict[str, Any]:
    """The good configuration with `value` at the dotted `path`."""
    sections = configuration()
    *parents, last = path.split(".")
    place = sections
    for key in parents:
        place = place[key]
    place[last] = value
    return sections


def test_a_good_configuration_is_resolved(project: Path) -> None:
    plan = loaded(project, configuration())

    service = plan.services["mnist"]
    assert service.only.models == (ModelReference("digits", None),)
    assert service.only.source_directory == project / "src"
    assert service.only.sample_request == project / "sample.json"
    assert service.deployment.port == 8890
    assert plan.environments["sklearn"].pip == ("scikit-learn",)
    assert plan.registry.tier == "Basic"


def test_keys_of_other_namespaces_are_left_alone(project: Path) -> None:
    raw = {f"slipway:{key}": json.dumps(value) for key, value in configuration().items()} | {"aws:region": "x"}
    assert loaded(project, configuration()) == load(raw, (), project, "dev")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("workspace", {}, "workspace.name: is missing; add it"),
        ("workspace", "demo", "workspace: must be a section with fields, not 'demo'"),
        ("workspace.name", "My Workspace", "workspace.name: 'My Workspace' is no DNS label (RFC 1123)"),
        ("workspace.nmae", "x", "workspace.nmae: is no field here; did you mean 'name'?"),
        ("registry.tier", "Gold", "registry.tier: input should be 'Basic', 'Standard' or 'Premium', not 'Gold'"),
        ("registry.kind", "cloud", "registry: kind must be one of 'layout', 'service', 'cluster', 'external'"),
        ("registry.port", 5000, "registry.port: cannot be honoured by a registry of kind layout; remove it, or choose"),
        ("registry", {"kind": "service"}, "registry.port: is missing; add it"),
        ("registry", {"kind": "service", "port": 80}, "registry.port: input should be greater than or equal to 1024"),
        (
            "registry",
            {"kind": "service", "port": 5000, "retentionDays": 7, "tier": "Standard"},
            "registry: retentionDays needs the tier Premium, not Standard; remove it, or choose that tier",
        ),
        (
            "registry",
            {"kind": "service", "port": 5000, "bind": "0.0.0.0"},
            "registry: has `bind: 0.0.0.0`, and no `host` by which others reach it; add it",
        ),
        (
            "registry",
            {"kind": "service", "port": 5000, "webhooks": {name: {"url": "https://hooks.example"} for name in "abc"}},
            "registry.webhooks: there are 3, and the tier Basic has 2; remove some, or choose another tier",
        ),
        (
            "registry",
            {"kind": "service", "port": 5000, "webhooks": {"ci": {"url": {"secret": "hook"}}}},
            "registry.webhooks.ci.url: no secret is named 'hook' (none is defined); set it: `pulumi config set ",
        ),
        (
            "registry",
            {"kind": "external", "address": "registry.example", "retentionDays": 7},
            "registry.retentionDays: cannot be honoured by a registry of kind external; remove it, or choose another",
        ),
        (
            "registry",
            {"kind": "external", "address": "ftp://registry.example"},
            "registry.address: 'ftp://registry.example' is no registry's address; expected HOST[:PORT][/PATH]",
        ),
        (
            "registry",
            {"kind": "external", "address": "registry.example", "username": "ci"},
            "registry: username and password go together: give both, or none",
        ),
        (
            "registry",
            {"kind": "external", "address": "registry.example", "caCertificate": "no.pem"},
            "no.pem: the file cannot be read: No such file or directory; mend the path",
        ),
        ("computeTargets", ["laptop"], "computeTargets: must be a section with a name for each entry, not ['laptop']"),
        ("computeTargets.laptop.kind", "laptop", "computeTargets.laptop: kind must be one of 'local', 'container'"),
        ("models.digits.path", "", "models.digits.path: string should have at least 1 character, not ''"),
        ("models.digits.pth", "x", "models.digits.pth: is no field here; did you mean 'path'?"),
        ("models.digits.keepVersions", 0, "models.digits.keepVersions: input should be greater than or equal to 1"),
        ("models", {"a b": {"path": "model.pkl"}, "digits": {"path": "model.pkl"}}, "models.a b: 'a b' is no name"),
        ("environments.minimal", {}, "environments.minimal: 'minimal' is a curated environment; choose another name"),
        ("environments.sklearn.clone", "minmal", "environments.sklearn.clone: no environment is named 'minmal'; "),
        ("environments.sklearn.pythonVersion", "2.7", "environments.sklearn.pythonVersion: string should match"),
        (
            "environments.sklearn.pythonVersion",
            "3.8",
            "sklearn.pythonVersion: 3.8: the scoring server needs Python 3.1",
        ),
        ("environments.sklearn.pip", ["numpy=1"], "sklearn.pip[0]: 'numpy=1' is conda's way; pip's is 'numpy==1'"),
        (
            "environments.sklearn.pip",
            "https://me:word@host",
            "sklearn.pip: input should be a valid tuple, not 'https://",
        ),
        (
            "environments.sklearn.condaFile",
            "conda.yml",
            "environments.sklearn.condaFile: is no field here; did you mean 'condaDependenciesFile'?",
        ),
        (
            "environments.sklearn.pipRequirementsFile",
            "requirements.txt",
            "environments.sklearn.pipRequirementsFile: requirements.txt: the file cannot be read: No such file or",
        ),
        (
            "environments.sklearn.condaDependenciesFile",
            "conda.yml",
            "environments.sklearn.condaDependenciesFile: conda.yml: the file cannot be read: No such file or",
        ),
        (
            "services.mnist.models",
            ["digit"],
            "services.mnist.models[0]: no model is named 'digit'; did you mean 'digits'? "
            "(a model can be deleted once no service and no package names it)",
        ),
        (
            "services.mnist.models",
            ["digits:x"],
            "services.mnist.models[0]: 'digits:x' must be the name of a model, name:version with a whole number from ",
        ),
        (
            "services.mnist.models",
            ["digits@best"],
            "services.mnist.models[0]: the model 'digits' has no alias 'best'; none is defined",
        ),
        ("models.digits.aliases", {"7": 1}, "models.digits.aliases.7: '7' is no alias: up to 63 letters, digits and "),
        (
            "models.digits.aliases",
            {"best": 0},
            "models.digits.aliases.best: input should be greater than or equal to 1",
        ),
        ("models.digits.sampleInput", "no.json", "models.digits.sampleInput: "),
        (
            "services.mnist.models",
            ["digits", "digits:1"],
            "services.mnist.models[1]: the model 'digits' is named twice",
        ),
        (
            "services.mnist.computeTarget",
            "lab",
            "services.mnist.computeTarget: no compute target is named 'lab'; known: la",
        ),
        (
            "services.mnist.inference.environment",
            "skl",
            "services.mnist.inference.environment: no environment is named",
        ),
        (
            "services.mnist.inference.entryscript",
            "a.py",
            "services.mnist.inference.entryscript: is no field here; did you",
        ),
        ("services.mnist.inference.entryScript", "scor.py", "services.mnist.inference.entryScript: "),
        ("services.mnist.inference.entryScript", "../model.pkl", "../model.pkl lies outside the source directory"),
        ("services.mnist.inference.sourceDirectory", "source", "/source is no folder; mend the path"),
        ("services.mnist.inference", "inference.json", "the file inference.json cannot be read: No such file"),
        (
            "services.mnist.deployment.port",
            70000,
            "services.mnist.deployment.port: input should be less than or equal to",
        ),
        ("services.mnist.deployment.port", "web", "services.mnist.deployment.port: input should be a valid integer"),
        ("services.mnist.deployment", {}, "services.mnist.deployment.port: is missing; add it"),
        (
            "services.mnist.deployment.computeType",
            "aci",
            "services.mnist.deployment.computeType: input should be 'local'",
        ),
        (
            "services.mnist.deployment.authEnabled",
            True,
            "services.mnist.deployment.authEnabled: cannot be honoured by a ",
        ),
        ("services.mnist.sampleRequest", "no.json", "services.mnist.sampleRequest: "),
        (
            "services.mnist.startupTimeoutSeconds",
            0,
            "services.mnist.startupTimeoutSeconds: input should be greater than",
        ),
        ("models.digits.path", "missing.pkl", "models.digits.path: "),
        ("modles", {}, "slipway:modles: is no section of the configuration; did you mean 'models'?"),
    ],
)
def test_a_mistake_is_named_with_its_place(project: Path, path: str, value: Any, message: str) -> None:
    found = mistakes(project, spoilt(path, value))

    assert [text for text in found if message in text], found
    assert all(text.startswith("stacks/Pulumi.dev.yaml: ") for text in found)
    assert ":word" not in str(found)


HOOK = {"kind": "service", "port": 5000, "tier": "Standard"}


@pytest.mark.parametrize(
    ("path", "value", "messages"),
    [
        (
            "services.mnist.inference",
            {"entryScipt": "score.py"},
            [
                "services.mnist.inference.entryScipt: is no field here; did you mean 'entryScript'?",
                "services.mnist.inference.entryScript: is missing; add it",
            ],
        ),
        (
            "services.mnist.inference",
            "",
            ["services.mnist.inference: string should have at least 1 character, not ''"],
        ),
        (
            "services.mnist.inference",
            7,
            ["services.mnist.inference: must be a text or a section with fields, not 7"],
        ),
        (
            "services.mnist.inference.environment",
            {"name": "own", "pyhton": {}},
            ["services.mnist.inference.environment.pyhton: is no field here; did you mean 'python'?"],
        ),
        (
            "services.mnist.inference.environment",
            "b d",
            [
                "services.mnist.inference.environment: 'b d' is no name: up to 255 letters, digits, '.', '_' and '-', "
                "the first a letter or digit"
            ],
        ),
        (
            "services.mnist.inference.environment",
            {"name": "own", "python": {"condaDependencies": {"dependencies": [{"pip": "numpy"}]}}},
            [
                "services.mnist.inference.environment.python.condaDependencies.dependencies[0].pip: input should be a "
                "valid tuple, not 'numpy'"
            ],
        ),
        (
            "services.mnist.deployments",
            {"blue": {"inference": {"entryScript": "score.py", "sourceDir": "src"}}},
            [
                "services.mnist.deployments.blue.inference.sourceDir: is no field here; did you mean "
                "'sourceDirectory'?",
            ],
        ),
        (
            "packages",
            {"app": {"inference": {"entryScript": "score.py", "sourceDir": "src"}}},
            ["packages.app.inference.sourceDir: is no field here; did you mean 'sourceDirectory'?"],
        ),
        (
            "registry",
            HOOK | {"webhooks": {"ci": {"url": {"secrets": "hook"}}}},
            [
                "registry.webhooks.ci.url.secret: is missing; add it",
                "registry.webhooks.ci.url.secrets: is no field here; did you mean 'secret'?",
            ],
        ),
        (
            "registry",
            HOOK | {"webhooks": {"ci": {"url": "http://ci.test", "headers": {"Authorization": {"secret": "a b"}}}}},
            [
                "registry.webhooks.ci.headers.Authorization.secret: is no name of a secret: up to 63 letters, digits, "
                "'_' and '-', a letter first"
            ],
        ),
    ],
)
def test_only_the_mistakes_of_what_was_written_are_told(
    project: Path, path: str, value: Any, messages: list[str]
) -> None:
    """Where a text or a section may stand."""
    assert mistakes(project, spoilt(path, value)) == [f"stacks/Pulumi.dev.yaml: {message}" for message in messages]


def test_a_service_name_is_a_dns_label(project: Path) -> None:
    sections = configuration()
    sections["services"]["My_Service"] = sections["services"].pop("mnist")

    assert "services.My_Service: 'My_Service' is no DNS label" in mistakes(project, sections)[0]


def test_all_mistakes_are_told_at_once(project: Path) -> None:
    sections = spoilt("registry.tier", "Gold")
    sections["services"]["mnist"]["computeTarget"] = "lab"
    sections["models"]["digits"]["path"] = "missing.pkl"
    sections["environments"]["sklearn"]["clone"] = "nothing"
    sections["typo"] = {}

    places = [text.split(": ")[1] for text in mistakes(project, sections)]

    assert places == [
        "environments.sklearn.clone",
        "models.digits.path",
        "registry.tier",
        "services.mnist.computeTarget",
        "slipway:typo",
    ]


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [("computeTarget", "lab", "computeTarget"), ("deployment", {"port": 8890, "cpu": 1}, "deployment.cpu")],
)
def test_a_mistake_in_where_a_service_runs_hides_none_in_what_it_is(
    project: Path, field: str, value: Any, place: str
) -> None:
    sections = spoilt("services.mnist.sampleRequest", "missing.json")
    sections["services"]["mnist"][field] = value
    sections["services"]["mnist"]["inference"]["environment"] = "sklern"
    sections["services"]["mnist"]["inference"]["entryScript"] = "missing.py"

    places = [text.split(": ")[1] for text in mistakes(project, sections)]

    assert places == [
        f"services.mnist.{name}"
        for name in sorted([place, "inference.entryScript", "inference.environment", "sampleRequest"])
    ]


def test_the_error_says_that_nothing_was_changed(project: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^the stack's configuration has 1 mistake; nothing was changed:\n  sta"
    ):
        loaded(project, spoilt("registry.tier", "Gold"))


def test_a_mistake_in_one_model_does_not_make_it_unknown_to_services(project: Path) -> None:
    assert len(mistakes(project, spoilt("models.digits.tags", 3))) == 1


def test_a_service_may_name_an_alias(project: Path) -> None:
    sections = spoilt("models.digits.aliases", {"champion": 3})
    sections["services"]["mnist"]["models"] = ["digits@champion"]

    assert loaded(project, sections).services["mnist"].only.models == (ModelReference("digits", 3),)


def test_a_model_that_is_removed_while_a_service_names_it(project: Path) -> None:
    assert mistakes(project, spoilt("models", {})) == [
        "stacks/Pulumi.dev.yaml: services.mnist.models[0]: no model is named 'digits'; none is defined "
        "(a model can be deleted once no service and no package names it)"
    ]


def test_samples_that_cannot_be_kept(project: Path) -> None:
    (project / "large.json").write_bytes(b"x" * 65537)
    (project / "binary").write_bytes(b"\xff")
    sections = configuration()
    sections["models"]["digits"] |= {"sampleInput": "large.json", "sampleOutput": "binary"}

    assert mistakes(project, sections) == [
        f"stacks/Pulumi.dev.yaml: models.digits.sampleInput: {project}/large.json has more than 65536 bytes; "
        f"give a smaller sample",
        f"stacks/Pulumi.dev.yaml: models.digits.sampleOutput: {project}/binary is no UTF-8 text; give a sample as text",
    ]


def test_two_services_on_one_port(project: Path) -> None:
    sections = configuration()
    sections["services"]["other"] = sections["services"]["mnist"]

    assert mistakes(project, sections) == [
        "stacks/Pulumi.dev.yaml: services.other.deployment.port: port 8890 is taken by services.mnist; "
        "services on this machine share its ports: choose another"
    ]


def test_a_secret_where_a_plain_value_is_expected(project: Path) -> None:
    assert mistakes(project, configuration(), ("slipway:registry",)) == [
        "stacks/Pulumi.dev.yaml: slipway:registry: holds a secret where a plain value is expected; "
        "set it without --secret, it is shown in previews"
    ]


def external_registry(password: Any) -> dict[str, Any]:
    return spoilt(
        "registry", {"kind": "external", "address": "registry.example", "username": "ci", "password": password}
    )


def test_a_secret_is_named_and_not_part_of_the_plan(project: Path) -> None:
    sections = external_registry({"secret": "registryPassword"}) | {"registryPassword": "canary"}

    plan = loaded(project, sections, ("slipway:registryPassword",))

    assert isinstance(plan.registry, ExternalRegistry)
    assert plan.registry.password == SecretReference(secret="registryPassword")
    assert "canary" not in repr(plan)


def test_a_secret_that_is_not_set(project: Path) -> None:
    sections = external_registry({"secret": "registryPasword"}) | {"registryPassword": "canary"}

    assert mistakes(project, sections, ("slipway:registryPassword",)) == [
        "stacks/Pulumi.dev.yaml: registry.password: no secret is named 'registryPasword' (did you mean "
        "'registryPassword'?); set it: `pulumi config set --secret slipway:registryPasword --stack dev`"
    ]


def test_a_secret_that_was_set_in_the_open(project: Path) -> None:
    sections = external_registry({"secret": "registryPassword"}) | {"registryPassword": "canary"}

    said = mistakes(project, sections)

    assert [line.partition(";")[0] for line in said] == [
        "stacks/Pulumi.dev.yaml: registry.password: no secret is named 'registryPassword' (none is defined)",
        "stacks/Pulumi.dev.yaml: slipway:registryPassword: is no section of the configuration",
    ]


@pytest.mark.parametrize("password", ["canary", {"value": "canary"}, {"secret": "canary of 2"}, ["canary"]])
def test_a_secret_in_the_place_of_its_name_is_not_repeated(project: Path, password: Any) -> None:
    said = mistakes(project, external_registry(password))

    assert said
    assert not any("canary" in line for line in said)
    assert all("registry.password" in line for line in said)


PYTHON = f"docker.io/library/python:3.11-slim@sha256:{'a' * 64}"


def a_package(**more: Any) -> dict[str, Any]:
    inference = {"entryScript": "score.py", "sourceDirectory": "src", "environment": "sklearn"}
    return {"models": ["digits"], "inference": inference, **more}


def packaged(package: dict[str, Any], **images: Any) -> dict[str, Any]:
    return {**configuration(), "packages": {"app": package}, "images": images}


def test_a_package_and_the_image_that_it_begins_with(project: Path) -> None:
    plan = loaded(project, packaged(a_package(), python=PYTHON))

    package = plan.packages["app"]
    assert package.models == (ModelReference("digits", None),)
    assert package.source_directory == project / "src"
    assert package.platforms == ("linux/amd64",)
    assert plan.python_image == ImagePlan("docker.io", "library/python", f"sha256:{'a' * 64}", "3.11", None)


@pytest.mark.parametrize(
    ("image", "location", "repository"),
    [
        ("python", "docker.io", "library/python"),
        ("team/python", "docker.io", "team/python"),
        ("docker.io/python", "docker.io", "library/python"),
        ("localhost/python", "localhost", "python"),
        ("registry.example:5000/a/b", "registry.example:5000", "a/b"),
    ],
)
def test_how_images_are_named(project: Path, image: str, location: str, repository: str) -> None:
    reference = f"{image}:3.12@sha256:{'a' * 64}"

    found = loaded(project, packaged(a_package(), python=reference)).python_image
    mirrored = loaded(project, packaged(a_package(), python=reference, mirror="mirror.example/hub")).python_image

    assert found is not None
    assert mirrored is not None
    assert (found.location, found.repository, found.python_version) == (location, repository, "3.12")
    assert (mirrored.location, mirrored.repository) == ("mirror.example/hub", repository)


def test_the_image_that_was_made_on_this_machine(project: Path) -> None:
    folder = project / ".slipway" / "images"
    folder.mkdir(parents=True)
    entry = {"repository": "base/python", "digest": "sha256:b", "pythonVersion": "3.11", "platforms": ["linux/amd64"]}
    (folder / "images.json").write_text(json.dumps({"python": entry}))

    plan = loaded(project, packaged(a_package()))

    layout = str(folder / "layout")
    assert plan.python_image == ImagePlan(layout, "base/python", "sha256:b", "3.11", ("linux/amd64",))
    (problem,) = mistakes(project, packaged(a_package(platforms=["linux/amd64", "linux/arm64"])))
    assert "packages.app.platforms[1]: the base image that was made on this machine is for linux/amd64; " in problem


def test_a_package_without_an_image_to_begin_with(project: Path) -> None:
    (problem,) = mistakes(project, packaged(a_package()))

    assert problem == (
        "stacks/Pulumi.dev.yaml: images.python: is not set, and packages.app needs it: name one by its digest "
        "(`python: docker.io/library/python:3.12-slim@sha256:...`), or make one on this machine: "
        "`python -m airgap.images`"
    )


def test_a_damaged_list_of_images_is_told(project: Path) -> None:
    (project / ".slipway" / "images").mkdir(parents=True)
    (project / ".slipway" / "images" / "images.json").write_text("{}")

    (problem,) = mistakes(project, packaged(a_package()))

    assert "images.json does not tell of one (KeyError('python'))" in problem


@pytest.mark.parametrize(
    ("package", "images", "message"),
    [
        (a_package(models=["digit"]), {}, "packages.app.models[0]: no model is named 'digit'; did you mean 'digits'?"),
        (a_package(inference={"entryScript": "no.py"}), {}, "packages.app.inference.entryScript: "),
        (a_package(platforms=[]), {}, "packages.app.platforms: tuple should have at least 1 item"),
        (a_package(platforms=["linux/amd64"] * 2), {}, "packages.app.platforms: names a platform twice; remove one"),
        (a_package(platforms=["linux/s390x"]), {}, "packages.app.platforms[0]: input should be 'linux/amd64' or "),
        (a_package(computeTarget="laptop"), {}, "packages.app.computeTarget: is no field here"),
        (
            a_package(inference={"entryScript": "score.py", "sourceDirectory": "src", "environment": "sk"}),
            {},
            "packages.app.inference.environment: no environment is named 'sk'",
        ),
        (
            a_package(),
            {"python": "python:3.12"},
            "images.python: 'python:3.12' must name an image by its digest: HOST/",
        ),
        (a_package(), {"python": f"python@sha256:{'a' * 64}"}, "images.pythonVersion: is missing: python@sha256:"),
        (a_package(), {"pythonVersion": "3.12"}, "images: has a pythonVersion, and no `python` that it would be of"),
        (
            a_package(),
            {"python": PYTHON, "username": "ci", "password": {"secret": "mirror"}},
            "images: has a username, and no `mirror` that it would be sent to; add it, or remove the credentials",
        ),
        (
            a_package(),
            {"python": PYTHON, "mirror": "mirror.example", "username": "ci", "password": {"secret": "mirror"}},
            "images.password: no secret is named 'mirror' (none is defined); set it: ",
        ),
        (a_package(), {"mirror": "mirror.example"}, "images: has a `mirror`, and no image that would be fetched from"),
    ],
)
def test_a_mistake_in_a_package(project: Path, package: Any, images: Any, message: str) -> None:
    found = mistakes(project, packaged(package, **images))

    assert [text for text in found if message in text], found


def test_packages_for_another_python_than_the_base_image_s(project: Path) -> None:
    sections = packaged(a_package(), python=PYTHON)
    sections["environments"]["sklearn"]["pythonVersion"] = "3.12"

    (problem,) = mistakes(project, sections)

    assert "the environment 'sklearn' has pythonVersion 3.12, and the base image has Python 3.11; change" in problem


def test_a_model_that_a_package_uses_is_not_deleted(project: Path) -> None:
    sections = packaged(a_package(), python=PYTHON)
    del sections["models"]["digits"], sections["services"]["mnist"]

    (problem,) = mistakes(project, sections)

    assert problem == (
        "stacks/Pulumi.dev.yaml: packages.app.models[0]: no model is named 'digits'; none is defined "
        "(a model can be deleted once no service and no package names it)"
    )


def test_environments_that_clone_each_other(project: Path) -> None:
    sections = configuration()
    sections["environments"] = {"sklearn": {"clone": "b"}, "b": {"clone": "sklearn"}}

    assert "environments clone each other: sklearn -> b" in mistakes(project, sections)[0]


def test_a_clone_adds_to_what_it_clones(project: Path) -> None:
    sections = configuration()
    sections["environments"]["more"] = {
        "clone": "sklearn",
        "pip": ["pandas"],
        "environmentVariables": {"LEVEL": 3, "FAST": True},
    }

    more = loaded(project, sections).environments["more"]

    assert more.pip == ("scikit-learn", "pandas")
    assert more.environment_variables == {"LEVEL": "3", "FAST": "true"}


class TestAzureFiles:
    """`inference` and `deployment` as paths of Azure's files."""

    INFERENCE: ClassVar[dict[str, Any]] = {
        "entryScript": "score.py",
        "environment": {
            "name": "my-deploy-env",
            "version": "1",
            "environmentVariables": {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"},
            "python": {
                "interpreterPath": "python",
                "userManagedDependencies": False,
                "condaDependencies": {
                    "channels": ["conda-forge"],
                    "dependencies": ["python=3.12", "pip", {"pip": ["azureml-defaults>=1.0.45", "numpy"]}],
                    "name": "project_environment",
                },
                "condaDependenciesFile": None,
                "baseCondaEnvironment": None,
            },
        },
    }

    @staticmethod
    def written(project: Path, inference: Any, deployment: Any) -> dict[str, Any]:
        (project / "src" / "inferenceconfig.json").write_text(json.dumps(inference))
        (project / "src" / "deploymentconfig.json").write_text(json.dumps(deployment))
        sections = configuration()
        sections["services"]["mnist"]["inference"] = "src/inferenceconfig.json"
        sections["services"]["mnist"]["deployment"] = "src/deploymentconfig.json"
        return sections

    def test_they_work_as_they_are(self, project: Path) -> None:
        plan = loaded(project, self.written(project, self.INFERENCE, {"computeType": "local", "port": 32267}))

        service = plan.services["mnist"]
        assert service.only.source_directory == project / "src"
        assert service.deployment.port == 32267
        assert service.only.environment == "my-deploy-env"
        environment = plan.environments["my-deploy-env"]
        assert environment.pip == ("numpy",), "Azure's own server is replaced by Slipway's"
        assert environment.python_version == "3.12"
        assert environment.environment_variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}

    def test_a_field_that_a_local_target_cannot_honour_is_refused_by_name(self, project: Path) -> None:
        deployment = {"computeType": "aci", "containerResourceRequirements": {"cpu": 0.5}, "port": 1}
        found = mistakes(project, self.written(project, self.INFERENCE, deployment))

        assert found == [
            "src/deploymentconfig.json: computeType: input should be 'local', not 'aci'",
            "src/deploymentconfig.json: containerResourceRequirements: cannot be honoured by a local target; "
            "remove it, or deploy to another kind of target",
        ]

    def test_a_mistake_names_the_file_that_it_is_in(self, project: Path) -> None:
        inference = self.INFERENCE | {"entryScirpt": "x"}
        assert mistakes(project, self.written(project, inference, {"port": 8890})) == [
            "src/inferenceconfig.json: entryScirpt: is no field here; did you mean 'entryScript'?"
        ]

    def test_conda_packages_and_old_pythons_are_named(self, project: Path) -> None:
        inference = json.loads(json.dumps(self.INFERENCE))
        inference["environment"]["python"]["condaDependencies"]["dependencies"] = [
            "python=3.6.2",
            "cudatoolkit=11.3",
            {"pip": ["numpy", "--extra-index-url https://me:word@host/simple"]},
        ]

        assert mistakes(project, self.written(project, inference, {"port": 8890})) == [
            "src/inferenceconfig.json: environment.python.condaDependencies.dependencies[0]: "
            "python=3.6.2: the scoring server needs Python 3.11",
            "src/inferenceconfig.json: environment.python.condaDependencies.dependencies[1]: "
            "'cudatoolkit=11.3' is a conda package that PyPI does not have; remove it (wheels bring the libraries they "
            "need), or name what it is on PyPI below `pip`",
            "src/inferenceconfig.json: environment.python.condaDependencies.dependencies[2].pip[1]: "
            "'--extra-index-url https://****@host/simple' holds credentials, which the lock and the state would show; "
            "an index is set in uv's own settings, where no state and no log sees it: UV_DEFAULT_INDEX or UV_INDEX "
            "(credentials: UV_INDEX_<NAME>_USERNAME and _PASSWORD, or netrc)",
        ]

    def test_conda_packages_come_from_pypi_and_that_is_said(self, project: Path) -> None:
        inference = json.loads(json.dumps(self.INFERENCE))
        inference["environment"]["python"]["condaDependencies"]["dependencies"] = ["scipy=1.14", "pytorch", "cpuonly"]

        plan = loaded(project, self.written(project, inference, {"port": 8890}))

        assert plan.environments["my-deploy-env"].pip == ("scipy==1.14.*", "torch")
        assert plan.environments["my-deploy-env"].torch_backend == "cpu"
        where = "environment.python.condaDependencies.dependencies"
        assert plan.notices == (
            "environment my-deploy-env: conda packages of src/inferenceconfig.json are taken from PyPI: "
            f"scipy==1.14.* ({where}[0]), torch ({where}[1])",
        )

    def test_a_conda_file_beside_the_inference_configuration(self, project: Path) -> None:
        inference = json.loads(json.dumps(self.INFERENCE))
        inference["environment"]["python"] |= {"condaDependencies": None, "condaDependenciesFile": "conda.yml"}
        (project / "src" / "conda.yml").write_text("dependencies: [python=3.12, pip: [numpy]]\n")

        plan = loaded(project, self.written(project, inference, {"port": 8890})).environments["my-deploy-env"]

        assert (plan.pip, plan.python_version) == (("numpy",), "3.12")
        assert plan.sources == {"numpy": "src/conda.yml: line 1"}
        assert plan.environment_variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}

    def test_a_conda_file_in_the_place_of_an_environment(self, project: Path) -> None:
        (project / "src" / "env").mkdir()
        (project / "src" / "env" / "conda.yml").write_text("dependencies: [pip: [numpy]]\n")
        inference = {"entryScript": "score.py", "runtime": "python", "condaFile": "env/conda.yml"}

        plan = loaded(project, self.written(project, inference, {"port": 8890}))

        assert plan.services["mnist"].only.environment == "mnist"
        assert plan.environments["mnist"].pip == ("numpy",)

    def test_mistakes_with_conda_files(self, project: Path) -> None:
        inference = json.loads(json.dumps(self.INFERENCE))
        inference["environment"]["python"]["condaDependenciesFile"] = "conda.yml"

        assert mistakes(project, self.written(project, inference, {"port": 8890})) == [
            "src/inferenceconfig.json: environment.python.condaDependenciesFile: "
            "src/conda.yml: the file cannot be read: No such file or directory; mend the path",
            "src/inferenceconfig.json: environment.python.condaDependenciesFile: "
            "stands beside condaDependencies; remove one of them",
        ]
        inference = {"entryScript": "score.py", "condaFile": "conda.yml", "environment": "sklearn"}
        assert mistakes(project, self.written(project, inference, {"port": 8890})) == [
            "src/inferenceconfig.json: condaFile: src/conda.yml: the file cannot be read: No such file or directory; "
            "mend the path",
            "src/inferenceconfig.json: condaFile: stands beside environment; remove one of them",
        ]

    def test_a_file_that_is_no_json(self, project: Path) -> None:
        sections = self.written(project, self.INFERENCE, {"port": 8890})
        (project / "src" / "inferenceconfig.json").write_text("{entryScript}")

        assert "the file src/inferenceconfig.json is no JSON document" in mistakes(project, sections)[0]


class TestIncludedFiles:
    """`include`: more entries, in files of their own."""

    @staticmethod
    def including(project: Path, text: str) -> dict[str, Any]:
        (project / "more.yaml").write_text(text)
        return configuration() | {"include": ["more.yaml"]}

    def test_their_entries_are_added(self, project: Path) -> None:
        plan = loaded(project, self.including(project, "models: {other: {path: model.pkl}}"))

        assert set(plan.models) == {"digits", "other"}

    def test_a_mistake_names_the_file_that_it_is_in(self, project: Path) -> None:
        text = "models: {other: {pth: model.pkl}}\ncomputeTargets: {digits: {kind: moon}}"
        assert [found.split(": ")[:2] for found in mistakes(project, self.including(project, text))] == [
            ["more.yaml", "computeTargets.digits"],
            ["more.yaml", "models.other.pth"],
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "models: {digits: {path: x}}",
                "more.yaml: models.digits: is in stacks/Pulumi.dev.yaml already; rename one",
            ),
            ("workspace: {name: x}", "more.yaml: workspace: cannot be included; known: computeTargets, environments, "),
            ("modles: {}", "more.yaml: modles: cannot be included; did you mean 'models'?"),
            ("models: [a]", "more.yaml: models: must be a section with a name for each entry, not ['a']"),
            (
                "[1]",
                "more.yaml: must hold sections (computeTargets, environments, models, services, packages), not [1]",
            ),
            ("a: b: c", "more.yaml: is no YAML document: "),
        ],
    )
    def test_what_cannot_be_included_is_told(self, project: Path, text: str, message: str) -> None:
        assert [found for found in mistakes(project, self.including(project, text)) if found.startswith(message)]

    def test_a_file_that_is_missing(self, project: Path) -> None:
        assert mistakes(project, configuration() | {"include": ["no.yaml"]}) == [
            "stacks/Pulumi.dev.yaml: include: the file no.yaml cannot be read: No such file or directory; mend the path"
        ]
