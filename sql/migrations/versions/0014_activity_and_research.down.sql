DROP TABLE mart.f_research, mart.f_activity;
