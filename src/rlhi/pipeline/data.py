"""The steps from logs to pairs: conversations, labels, personas, pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

from rlhi import prompts
from rlhi.errors import UsageError
from rlhi.feedback.label import LabelStage
from rlhi.flow.identity import code_digest, file_digest
from rlhi.flow.stage import Context
from rlhi.flow.table import read_rows
from rlhi.logs import ingest
from rlhi.logs.files import beside, expand
from rlhi.models import weights
from rlhi.models.tokenizer import load_tokenizer
from rlhi.pairs import ugr
from rlhi.pairs.tasks import Source, cap_per_user, request_tasks, rewrite_tasks
from rlhi.pairs.ubr import UbrStage
from rlhi.personas.stage import PersonaStage, UserHistory
from rlhi.pipeline.code import CODE
from rlhi.pipeline.session import Rows, Session, Table
from rlhi.recipe import LOCAL, Model, Pairs, Recipe
from rlhi.records import Conversation, LabelledTurn, PersonaCard, digest
from rlhi.rewards import Reward

TOKENIZER_FILES = (
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("*.model", "vocab.*", "merges.txt"),
)


def conversations(session: Session) -> None:
    """Read, clean and split the logs; what cannot be used goes to `quarantine/`."""
    recipe = session.recipe
    files, hubs = expand(recipe.logs.paths)
    identity = {
        "stage": "conversations",
        "settings": recipe.logs.model_dump(mode="json"),
        "seed": recipe.seeds[0],
        "inputs": {str(file): file_digest(file) for file in [*files, *beside(files, recipe.logs)]}
        | {str(hub): "hub" for hub in hubs},
        "code": code_digest(*CODE["conversations"]),
    }

    def make() -> Table:
        found = ingest(recipe.logs, recipe.seeds[0], session.progress.advance)
        return Table(found.read, found.conversations, quarantined=found.quarantined)

    session.table("conversations", Conversation, identity, make)


def labels(session: Session) -> None:
    """Label every user message after the first."""
    recipe = session.recipe
    name = recipe.roles.labeler
    session.stage(
        "labels",
        LabelStage(labeler=name, max_chars=recipe.labels.max_chars),
        lambda: (read_rows(session.folder.rows_path("conversations"), Conversation), []),
        inputs=session.inputs("conversations"),
        models={} if name == LOCAL else {"labeler": recipe.back_end(name)},
        code=CODE["labels"],
    )


def histories(session: Session) -> list[UserHistory]:
    """Conversations and labels of each user who is not set apart, in order of time."""
    talks: dict[str, list[Conversation]] = defaultdict(list)
    said: dict[str, list[LabelledTurn]] = defaultdict(list)
    for conversation in read_rows(session.folder.rows_path("conversations"), Conversation):
        if conversation.split != "apart":
            talks[conversation.user_id].append(conversation)
    for row in read_rows(session.folder.rows_path("labels"), LabelledTurn):
        said[row.user_id].append(row)
    return [
        UserHistory(user_id=user, conversations=tuple(talks[user]), labels=tuple(said[user])) for user in sorted(talks)
    ]


def personas(session: Session) -> None:
    """Write each user's cards, one version for each conversation that asks for one."""
    recipe = session.recipe
    name = recipe.roles.persona
    session.stage(
        "personas",
        PersonaStage(
            persona=name,
            every=recipe.personas.every,
            max_statements=recipe.personas.max_statements,
            min_confidence=recipe.personas.min_confidence,
        ),
        lambda: (histories(session), []),
        inputs=session.inputs("conversations", "labels"),
        models={} if name == LOCAL else {"persona": recipe.back_end(name)},
        code=CODE["personas"],
    )


@cache
def token_counter(model: str) -> Callable[[str], int]:
    """Counts tokens as the policy does."""
    tokenizer = load_tokenizer(weights.find(model))
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


@cache
def vocabulary(model: str) -> str:
    """Digest of the files that decide how the policy counts tokens, 32 hex digits. Raises `UsageError`."""
    folder = weights.tokenizer_folder(weights.find(model))
    found = {file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)}
    return digest({file.name: file_digest(file) for file in sorted(found)})


def counting(session: Session) -> dict[str, Any]:
    """What decides how much of a card a prompt shows, and how long a prompt is."""
    recipe = session.recipe
    return {"persona_tokens": recipe.personas.max_tokens, "tokenizer": vocabulary(recipe.training.model)}


def prompt_limit(recipe: Recipe, reply_tokens: int, setting: str) -> int:
    """Most tokens of a prompt: what the recipe allows, and what the policy reads beside a reply of full length.

    Raises `UsageError` where that leaves nothing; `setting` names the key of `reply_tokens`.
    """
    reads = weights.context_length(weights.find(recipe.training.model))
    if reads is None:
        return recipe.pairs.max_prompt_tokens
    if reads <= reply_tokens:
        raise UsageError(
            f"{setting}={reply_tokens} leaves no room for a prompt: the model {recipe.training.model!r} reads {reads} "
            "tokens, prompt and reply together; lower it"
        )
    return min(recipe.pairs.max_prompt_tokens, reads - reply_tokens)


def _pair_settings(recipe: Recipe) -> Pairs:
    most = prompt_limit(recipe, recipe.pairs.rollout.max_tokens, "pairs.rollout.max_tokens")
    return recipe.pairs.model_copy(update={"max_prompt_tokens": most})


def _source(session: Session) -> Source:
    folder, recipe = session.folder, session.recipe
    return Source(
        read_rows(folder.rows_path("conversations"), Conversation),
        read_rows(folder.rows_path("labels"), LabelledTurn),
        read_rows(folder.rows_path("personas"), PersonaCard),
        recipe.personas.max_tokens,
        token_counter(recipe.training.model),
    )


def reward_models(session: Session) -> dict[str, Model]:
    """The back end of the reward role; `local` is the policy's base model."""
    return {"reward": session.recipe.back_end(session.recipe.roles.reward)}


def pair_resources(ctx: Context, session: Session) -> dict[str, Any]:
    """What the pair stages score and count with."""
    from rlhi.rewards.classifier import ClassifierReward
    from rlhi.rewards.likelihood import LikelihoodReward, Plausibility
    from rlhi.rewards.rubric import RubricReward

    pairs = session.recipe.pairs
    model: Any = ctx.model("reward")
    quality: Reward
    evidence: Reward
    name = session.recipe.roles.reward
    if name == LOCAL:
        quality = LikelihoodReward(model, pairs.fluency, pairs.length_slope)
        evidence = LikelihoodReward(model, 0.0)
    elif session.recipe.back_end(name).backend == "classifier":
        quality = evidence = ClassifierReward(model)
    else:
        quality = evidence = RubricReward(model, pairs.ratings)
    count = token_counter(session.recipe.training.model)
    plausibility = Plausibility(model, pairs.length_slope) if name == LOCAL else None
    return {"reward": quality, "validity": evidence, "plausibility": plausibility, "count_tokens": count}


def rewrites(session: Session) -> None:
    """Make user-guided rewrites."""
    recipe, roles = session.recipe, session.recipe.roles
    settings = _pair_settings(recipe)

    def rows() -> Rows:
        tasks, unsure = rewrite_tasks(_source(session), settings.ugr.min_confidence)
        kept, capped = cap_per_user(tasks, settings.ugr.max_per_user, recipe.seeds[0])
        return kept, [*unsure, *capped]

    models = {"policy": recipe.back_end(roles.policy), "rewriter": recipe.back_end(roles.rewriter)}
    if roles.validity != LOCAL:
        models["validity"] = recipe.back_end(roles.validity)
    session.stage(
        "pairs/ugr",
        ugr.UgrStage(
            settings=settings,
            validity=roles.validity,
            prompts=prompts.fingerprint(*ugr.PROMPTS),
            seed=recipe.seeds[0],
        ),
        rows,
        inputs=session.inputs("conversations", "labels", "personas"),
        models=models | reward_models(session),
        code=CODE["pairs"],
        rows_from=counting(session),
        resources=pair_resources,
    )


def requests(session: Session) -> None:
    """Make pairs by user-based rewards."""
    recipe, settings = session.recipe, _pair_settings(session.recipe)

    def rows() -> Rows:
        tasks, unlabelled = request_tasks(_source(session))
        kept, capped = cap_per_user(tasks, settings.ubr.max_per_user, recipe.seeds[0])
        return kept, [*unlabelled, *capped]

    session.stage(
        "pairs/ubr",
        UbrStage(settings=settings, prompts=prompts.fingerprint("rubric"), seed=recipe.seeds[0]),
        rows,
        inputs=session.inputs("conversations", "labels", "personas"),
        models={"policy": recipe.back_end(recipe.roles.policy)} | reward_models(session),
        code=CODE["pairs"],
        rows_from=counting(session),
        resources=pair_resources,
    )


def pairs(session: Session) -> None:
    """Make the pairs of every source that the recipe enables."""
    made = {"ugr": rewrites, "ubr": requests}
    for source in session.recipe.pairs.enabled():
        made[source](session)
