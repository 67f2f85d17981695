"""Writes what the exports of ChatGPT and Open WebUI hold, and rows of LMSYS-Chat-1M, with their real fields."""

from __future__ import annotations

from typing import Any

LMSYS: dict[str, Any] = {
    "conversation_id": "33f5c9a1b2",
    "model": "vicuna-13b",
    "conversation": [
        {"content": "Who is NAME_1?", "role": "user"},
        {"content": "NAME_1 is a writer.", "role": "assistant"},
    ],
    "turn": 1,
    "language": "English",
    "openai_moderation": [{"categories": {"hate": False}, "category_scores": {"hate": 0.01}, "flagged": False}],
    "redacted": True,
}


def chatgpt_message(role: str, *parts: Any, **fields: Any) -> dict[str, Any]:
    """A message of ChatGPT's export; `content` replaces the text parts."""
    return {
        "id": "m",
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": 1_700_000_000.5,
        "update_time": None,
        "content": {"content_type": "text", "parts": list(parts)},
        "status": "finished_successfully",
        "end_turn": None,
        "weight": 1.0,
        "metadata": {},
        "recipient": "all",
        "channel": None,
        **fields,
    }


def chatgpt(current: str | None, **nodes: tuple[str | None, dict[str, Any] | None]) -> dict[str, Any]:
    """A conversation of ChatGPT's export out of `key=(parent, message)`."""
    children: dict[str | None, list[str]] = {}
    for key, (parent, _) in nodes.items():
        children.setdefault(parent, []).append(key)
    return {
        "title": "A talk",
        "create_time": 1_700_000_000.0,
        "update_time": 1_700_000_900.0,
        "mapping": {
            key: {"id": key, "message": message, "parent": parent, "children": children.get(key, [])}
            for key, (parent, message) in nodes.items()
        },
        "moderation_results": [],
        "current_node": current,
        "plugin_ids": None,
        "conversation_id": "6550-c1",
        "conversation_template_id": None,
        "gizmo_id": None,
        "is_archived": False,
        "safe_urls": [],
        "default_model_slug": "gpt-4o",
        "id": "6550-c1",
    }


def webui_message(parent: str | None, role: str, content: str, **fields: Any) -> dict[str, Any]:
    """A message of Open WebUI's tree."""
    own = {"models": ["llama3:8b"]} if role == "user" else {"model": "llama3:8b", "modelName": "Llama 3", "done": True}
    return {
        "parentId": parent,
        "childrenIds": [],
        "role": role,
        "content": content,
        "timestamp": 1_700_000_000,
        **own,
        **fields,
    }


def webui(current: str | None, **messages: dict[str, Any]) -> dict[str, Any]:
    """A chat of Open WebUI's export."""
    for key, message in messages.items():
        message["id"] = key
        if message["parentId"] in messages:
            messages[message["parentId"]]["childrenIds"].append(key)
    return {
        "id": "9b1d-chat",
        "user_id": "u-42",
        "title": "A talk",
        "chat": {
            "id": "",
            "title": "A talk",
            "models": ["llama3:8b"],
            "params": {},
            "history": {"messages": messages, "currentId": current},
            "messages": [],
            "tags": [],
            "timestamp": 1_700_000_000_123,
            "files": [],
        },
        "updated_at": 1_700_000_900,
        "created_at": 1_700_000_000,
        "share_id": None,
        "archived": False,
        "pinned": False,
        "meta": {},
        "folder_id": None,
    }
