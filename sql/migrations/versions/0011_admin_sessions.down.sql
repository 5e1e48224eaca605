DROP TABLE mailings.ended_admin_session;
