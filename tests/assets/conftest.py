import pytest
from sqlalchemy.orm import Session

from tests.assets import plant as plants


@pytest.fixture
def plant(session: Session) -> plants.Plant:
    return plants.build(session)
